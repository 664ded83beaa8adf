"""Trained models of nnU-Net as files of ours: read, assembled, proven; neither torch nor Keras."""
