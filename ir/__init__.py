"""The intermediate representation: graphs, types, tensors, operators and file formats."""

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef
from graphopt.ir.errors import (
    CheckError,
    Error,
    GraphError,
    MalformedError,
    ResourceError,
    UnsupportedError,
    UsageError,
    VerificationError,
)
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_array, known_scalar, known_tensor
from graphopt.ir.model import Function, Model, Signature
from graphopt.ir.tensors import ArrayTensor, FileTensor, PackedTensor, RepeatedTensor, Tensor, tensor
from graphopt.ir.types import DType, Shape, TensorType, dtype_named, tensor_type
from graphopt.ir.value import Node, Value

__all__ = [
    "ArrayTensor",
    "AttributePlaceholder",
    "CheckError",
    "DType",
    "Error",
    "FileTensor",
    "Function",
    "FunctionRef",
    "Graph",
    "GraphError",
    "MalformedError",
    "Model",
    "Node",
    "PackedTensor",
    "RepeatedTensor",
    "ResourceError",
    "Shape",
    "Signature",
    "Tensor",
    "TensorType",
    "UnsupportedError",
    "UsageError",
    "Value",
    "VerificationError",
    "dtype_named",
    "hold",
    "known_array",
    "known_scalar",
    "known_tensor",
    "tensor",
    "tensor_type",
]
