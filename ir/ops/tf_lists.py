"""Operators of TensorFlow: lists."""
