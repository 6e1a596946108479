"""Choosing a model's size, its sampler and LoRAs, and the line above the prompt that says what is in use."""
