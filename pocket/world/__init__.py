"""What the embedded model can be shown: pictures and captions, and the words that it knows."""
