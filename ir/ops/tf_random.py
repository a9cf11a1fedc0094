"""Operators of TensorFlow: random."""
