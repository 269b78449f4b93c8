"""What is written and read: a model's state, estimator files, checkpoints and ONNX graphs."""
