"""vol3dseg: train a 3-D U-Net on multimodal scans, deploy it as one self-describing ONNX file."""

__version__ = "0.1.0"
