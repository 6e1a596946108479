"""Where a picture comes from: the training pictures, and its way among others."""
