"""The intermediate representation: graphs, types, tensors, operators and file formats."""
