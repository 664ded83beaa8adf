"""One worker process for each contestant, and the lines that it speaks."""
