"""Operators of TensorFlow: quantization."""
