"""Operators of TensorFlow: linalg."""
