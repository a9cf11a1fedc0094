"""Operators of TensorFlow expressed by other operators of TensorFlow, for every target that lacks them."""
