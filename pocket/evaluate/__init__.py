"""How well the embedded model draws; ``python -m pocket.evaluate`` prints it."""
