"""Passes that infer and set shapes."""
