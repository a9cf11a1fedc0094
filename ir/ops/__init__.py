"""Operator declarations, grouped by dialect and family."""
