"""Operators of TensorFlow: control."""
