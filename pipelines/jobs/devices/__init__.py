"""All devices of one machine: a worker for each behind one queue, and batches that several of them make together."""
