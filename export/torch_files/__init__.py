"""Files that torch has written, read without torch and without running anything in them."""
