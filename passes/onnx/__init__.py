"""Passes over operators of ONNX."""
