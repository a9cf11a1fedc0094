"""Operators of TensorFlow: rnn."""
