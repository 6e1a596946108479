"""A tiny diffusion model of dots in the plane: trained in seconds, sampled by the same loop as pictures."""
