"""Operators of TensorFlow: reduction."""
