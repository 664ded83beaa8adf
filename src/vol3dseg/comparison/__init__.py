"""Runs side by side: what they are, what they reached, and whether they differ."""
