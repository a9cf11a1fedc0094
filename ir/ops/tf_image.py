"""Operators of TensorFlow: image."""
