"""Cases in a browser: a page on the loopback interface, which reaches nothing else."""
