"""Comparisons: one request with one, two or three of its settings changed, cell by cell."""
