"""Data that a user may edit, and the small loader that reads it."""
