"""Sampling: the denoising loop, schedulers, latents, conditioning, initial noise."""
