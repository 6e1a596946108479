"""Models in memory: loading, placement, eviction, and what is put onto them."""
