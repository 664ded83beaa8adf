"""What scans look like, and what is unlike the others."""
