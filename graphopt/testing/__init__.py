"""Helpers for authors of passes: random graphs and equivalence checks."""
