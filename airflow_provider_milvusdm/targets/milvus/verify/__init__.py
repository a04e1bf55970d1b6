"""Verify a collection: counts, rows, search."""
