"""A fixed sample of what a model was trained on, and what the best possible denoiser for it would believe."""
