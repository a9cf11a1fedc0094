"""TensorRT: ONNX in the dialect that TensorRT parses and builds, strongly typed, with all that building it needs."""
