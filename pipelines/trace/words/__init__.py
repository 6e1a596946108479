"""What the words of a prompt do: cross-attention maps of a recorded run, and what the text encoder makes of them."""
