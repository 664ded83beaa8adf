"""The page on an evaluation."""
