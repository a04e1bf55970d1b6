"""Faiss indexes."""
