"""Verify a collection: its counts, its rows, and searches."""
