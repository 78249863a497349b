"""Export of a trained model to ONNX, OpenVINO and PyTorch files."""
