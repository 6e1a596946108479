"""The history: a database of pictures and their settings, the picture files, and readers for other programs' files."""
