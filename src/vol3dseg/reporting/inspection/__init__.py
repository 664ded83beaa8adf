"""The page on a data set."""
