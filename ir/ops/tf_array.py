"""Operators of TensorFlow: array."""
