"""Rows of any source, before any target: read, resolved, checked."""
