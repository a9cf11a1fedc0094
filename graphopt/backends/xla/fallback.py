"""TensorFlow's own lowering of a whole graph, for graphs with an operator that has no rule.

It runs in a process of its own: TensorFlow ends the process where its lowering meets what it did not expect.
"""

from __future__ import annotations

import os
import tempfile

from graphopt.backends.legalization import CannotLowerError
from graphopt.backends.xla.bindings import make_context
from graphopt.backends.xla.operand import static_dims
from graphopt.backends.xla.options import XlaOptions
from graphopt.backends.xla.serialization import parse_module, serialized
from graphopt.backends.xla.tensorflow_process import run_tensorflow
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.formats.graphdef import graphdef_chunks
from graphopt.ir.model import Model
from graphopt.names import tensor_name

# What the other process runs: argv is a graph, the tensors fed with their types and shapes, those fetched, a target.
PROGRAM = """
import json, sys
import tensorflow as tf
graph_path, ends, target = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
graph = tf.compat.v1.GraphDef()
with open(graph_path, "rb") as file:
    graph.ParseFromString(file.read())
def body():
    tf.compat.v1.import_graph_def(graph, name="")
wrapped = tf.compat.v1.wrap_function(body, [])
pruned = wrapped.prune(
    [wrapped.graph.get_tensor_by_name(name) for name, _, _ in ends["feeds"]],
    [wrapped.graph.get_tensor_by_name(name) for name in ends["fetches"]],
)
specs = [tf.TensorSpec(shape, tf.dtypes.as_dtype(dtype)) for _, dtype, shape in ends["feeds"]]
@tf.function(jit_compile=True, input_signature=specs)
def compiled(*values):
    return tuple(tf.nest.flatten(pruned(*values)))
code = compiled.experimental_get_compiler_ir(*specs)(stage="stablehlo_serialized")
with open(target, "wb") as file:
    file.write(code)
"""


def lower_with_tensorflow(part: Model, name: str, options: XlaOptions) -> bytes:
    """VHLO bytecode of the signature `name` of a prepared model, its weights constants inside.

    Raises `UnsupportedError` where TensorFlow does not lower it either, or a dimension is not known.
    """
    import json

    if len(options.platforms) > 1:
        raise UnsupportedError("TensorFlow lowers for one platform")
    signature = part.signatures[name]
    try:
        shapes = [static_dims(value.shape.dims or ()) for value in signature.input_values().values()]
    except CannotLowerError as refusal:
        raise UnsupportedError(f"TensorFlow lowers graphs of known shapes only: {refusal.remedy}") from refusal
    ends = {
        "feeds": [
            (tensor_name(value), value.dtype.name, list(shape))
            for value, shape in zip(signature.input_values().values(), shapes, strict=True)
        ],
        "fetches": [tensor_name(value) for value in signature.output_values().values()],
    }
    with tempfile.TemporaryDirectory() as folder:
        graph, target = os.path.join(folder, "graph.pb"), os.path.join(folder, "module.mlirbc")
        with open(graph, "wb") as file:
            file.writelines(graphdef_chunks(part))
        run_tensorflow(PROGRAM, graph, json.dumps(ends), target, what="TensorFlow's own lowering")
        with open(target, "rb") as file:
            code = file.read()
    context = make_context()
    with context:
        return serialized(parse_module(code, context), options.minimum_version)
