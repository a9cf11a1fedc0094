"""Operators of TensorFlow: sparse."""
