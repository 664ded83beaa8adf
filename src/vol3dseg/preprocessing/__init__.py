"""From scans to what the network sees, and back: the recipe, its steps, the prepared store."""
