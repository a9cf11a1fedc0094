"""StableHLO as a source: modules, blobs of `jax.export` and XlaCallModule nodes become graphs in the `tf` dialect."""
