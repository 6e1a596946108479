"""The prompt's help: examples, what a model with a small vocabulary understands, and a builder of prompts."""
