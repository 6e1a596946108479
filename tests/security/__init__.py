"""Attacks on the running server."""
