"""Passes over control flow: branches, loops, and the two forms TensorFlow has for them."""
