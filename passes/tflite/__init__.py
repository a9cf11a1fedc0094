"""Passes over operators of TFLite."""
