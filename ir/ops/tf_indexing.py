"""Operators of TensorFlow: indexing."""
