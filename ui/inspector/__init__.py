"""The inspector: what happened in a run."""
