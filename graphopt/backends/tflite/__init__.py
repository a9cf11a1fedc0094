"""TFLite: TensorFlow graphs as operators that LiteRT has kernels for."""
