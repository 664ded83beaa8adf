"""What a model says of itself, and its file."""
