"""Passes that turn state into constants."""
