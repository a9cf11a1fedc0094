"""XLA: TensorFlow graphs as StableHLO, which JAX runs on CPU and GPU and XLA compiles."""
