"""Operators of TensorFlow: string."""
