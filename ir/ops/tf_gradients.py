"""Operators of TensorFlow: gradients."""
