"""Generated protobuf modules, wire-compatible with TensorFlow's under a package name of our own."""
