"""Passes that remove what nothing needs."""
