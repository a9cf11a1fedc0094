"""Operators of TensorFlow: convolution."""
