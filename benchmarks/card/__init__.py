"""What a graphics card does with the playground, for people who have one to measure and tell."""
