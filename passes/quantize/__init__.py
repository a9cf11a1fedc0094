"""Quantization: recipe -> statistics -> parameters -> edits, with plain data between."""
