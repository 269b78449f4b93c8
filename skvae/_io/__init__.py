"""Reading and writing of a model's state, estimator files, checkpoints and ONNX graphs."""
