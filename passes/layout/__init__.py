"""Passes that change the order in which tensors hold their dimensions."""
