"""Models of the Hugging Face Hub: which files one needs, which are here, and downloading the rest."""
