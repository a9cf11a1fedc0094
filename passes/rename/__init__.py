"""Passes that change names and nothing else."""
