"""graphopt: a source-to-source graph-rewriting compiler library for TensorFlow models."""
