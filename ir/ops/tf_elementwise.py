"""Operators of TensorFlow: elementwise."""
