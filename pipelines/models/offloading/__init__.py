"""Parts of a model that wait in RAM and come to the graphics card while they work."""
