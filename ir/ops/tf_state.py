"""Operators of TensorFlow: state."""
