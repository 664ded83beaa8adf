"""From a trained Keras model to ONNX, and the proof that both agree."""
