"""Operators of TensorFlow: nn."""
