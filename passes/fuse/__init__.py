"""Fusion of operators of the source dialect, for whatever target has the fused one."""
