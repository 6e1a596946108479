"""Recipes: an entry as JSON, and as a script for diffusers alone that makes the same picture."""
