"""What files of weights mean: a whole model in one file, and weights that are complete and multiplied."""
