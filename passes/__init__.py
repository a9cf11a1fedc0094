"""The rewrite engine, the pass manager and every pass."""
