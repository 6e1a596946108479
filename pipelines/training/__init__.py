"""Training models before the user's eyes."""
