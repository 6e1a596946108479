"""Replays: an entry made again, compared with what it was, and the likely cause of a difference."""
