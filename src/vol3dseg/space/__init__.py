"""Grids and what lies on them: geometry, axes, resampling, labels, volumes."""
