"""Styles and wildcards: what of a prompt is added and drawn before it is sent."""
