"""Training; the only package beside `vol3dseg.export` that imports TensorFlow."""

import os

# TensorFlow reads this when it is imported. Without AVX-512 it leaves oneDNN's 3-D convolutions
# off, which take a quarter of the time and half of the memory; the user's own choice wins.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
