"""Jobs: the queue, the worker, and what the page asks of them."""
