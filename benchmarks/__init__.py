"""Trials on real data and measurements; not part of the wheel."""
