"""Programs of other languages as graphs in TensorFlow's operators."""
