"""Scores of predictions against references, and what is shown of them."""
