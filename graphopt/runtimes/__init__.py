"""Runtimes that run a model, each imported only when it is asked for."""
