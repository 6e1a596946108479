"""What the engine needs of the machine: files, memory, headers."""
