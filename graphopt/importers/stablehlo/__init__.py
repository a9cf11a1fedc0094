"""StableHLO as a source: modules, `jax.export` blobs and XlaCallModule nodes become graphs of TensorFlow's operators."""
