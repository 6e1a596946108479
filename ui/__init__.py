"""The page.  Imports no torch: it paints before the model libraries are there."""
