"""Families of rules: what each StableHLO operator is in TensorFlow's operators."""
