"""Whole-volume inference: manifest, sessions, tiling, predictor. No TensorFlow."""
