"""The embedded model: its data, training, evaluation and weights."""
