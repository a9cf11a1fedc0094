"""Targets that models are lowered to, one folder each; what they share is here."""
