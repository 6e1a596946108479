"""The record of a run: every step, its lenses, its exports."""
