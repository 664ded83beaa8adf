"""Training; the only package beside `vol3dseg.export` that imports TensorFlow."""
