"""Rewrite rules that several passes use, by subject."""
