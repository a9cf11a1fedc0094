"""Rules that express TensorFlow operators by StableHLO, a module for each family."""
