"""Image files in and out, whatever their format."""
