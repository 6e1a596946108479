"""Fine-tuning a loaded model on a user's pictures and a new word, watched while it learns."""
