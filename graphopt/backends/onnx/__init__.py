"""ONNX: TensorFlow graphs as operators of ONNX, channels first, for ONNX Runtime and for TensorRT."""
