"""The form: what is asked for."""
