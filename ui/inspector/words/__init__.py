"""The panels about the words of the prompt."""
