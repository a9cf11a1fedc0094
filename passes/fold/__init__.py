"""Passes that compute at compile time what is known then."""
