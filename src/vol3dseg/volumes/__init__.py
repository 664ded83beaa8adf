"""Volumes in memory and on disk: boxes, geometry, images, labels, files, resampling."""
