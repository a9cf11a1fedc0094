"""What TensorFlow's Graph Transform Tool does, with the passes of graphopt: its grammar, its transforms, its run.

`graphopt transform` and `graphopt.compat.graph_transforms` are two ways in.
"""
