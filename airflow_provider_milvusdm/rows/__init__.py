"""Rows of any source, before they go to any target: they are read, checked and resolved here."""
