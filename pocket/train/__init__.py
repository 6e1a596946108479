"""Training of the embedded model; ``python -m pocket.train`` does all of it."""
