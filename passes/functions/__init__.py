"""Passes over the function library: inlining, raising control flow, pruning."""
