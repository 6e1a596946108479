"""Graphics cards: their facts, copies to and from them, their memory, and the build of PyTorch that fits."""
