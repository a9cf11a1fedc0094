"""Accuracy of quantized models: measuring it, and choosing what keeps it."""
