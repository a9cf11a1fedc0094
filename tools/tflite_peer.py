"""TensorFlow's own TFLite converter on one model: builtin operators only, what it says when it refuses."""

from __future__ import annotations

import pathlib
import re
from typing import Any

TIMED = """
import sys
import tensorflow as tf
open(sys.argv[2], "wb").write(tf.lite.TFLiteConverter.from_saved_model(sys.argv[1]).convert())
"""
"""A process that converts a SavedModel and does nothing else: source, target."""


def prune(graph_def: Any, inputs: list[str], outputs: list[str]) -> Any:
    """The concrete function from the tensors `inputs` to the tensors `outputs` of a GraphDef."""
    import tensorflow as tf

    whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
    tensors = [whole.graph.as_graph_element(_with_port(name)) for name in inputs]
    return whole.prune(tensors, [whole.graph.as_graph_element(_with_port(name)) for name in outputs])


def _with_port(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def convert_function(function: Any) -> bytes:
    """tf.lite's output for a concrete function."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    content: bytes = converter.convert()
    return content


def convert_frozen(graph_def: Any, inputs: list[str], outputs: list[str]) -> bytes:
    """What TensorFlow 1's converter makes of a frozen GraphDef."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        tensors = [[graph.as_graph_element(_with_port(name)) for name in names] for names in (inputs, outputs)]
        content: bytes = tf.compat.v1.lite.TFLiteConverter(graph_def, *tensors).convert()
    return content


def convert_saved_model(path: pathlib.Path) -> bytes:
    """tf.lite's output for all signatures of a SavedModel."""
    import tensorflow as tf

    content: bytes = tf.lite.TFLiteConverter.from_saved_model(str(path)).convert()
    return content


def operator_counts(graph_def: Any) -> dict[str, int]:
    """TensorFlow operators of a GraphDef and of its library."""
    counts: dict[str, int] = {}
    for nodes in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in nodes:
            counts[node.op] = counts.get(node.op, 0) + 1
    return counts


def telling_line(message: str) -> str:
    """What a converter's message comes down to: the operators it misses, or its first line that says something."""
    missing = re.findall(r"^\s*(TF Select ops|Custom ops): (.+)$", message, re.MULTILINE)
    if missing:
        return "; ".join(f"{kind}: {names}" for kind, names in missing)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line and "failed while converting" not in line] or lines
    text = re.sub(r"loc\(.*?\)+:? ?", "", telling[0]) if telling else "no message"
    return text[:300]


def condensed(message: str) -> str:
    """The message without its Python call stacks and program listings."""
    wanted = re.compile(r"error:|ops: |^\s*tf\.\w+\(|Error code")
    return "\n".join(line[:400] for line in message.splitlines() if wanted.search(line))[:4000] or message[:400]


def convert(source: pathlib.Path, target: pathlib.Path) -> str:
    """Convert a SavedModel; returns in one line why that failed."""
    try:
        content = convert_saved_model(source)
    except Exception as error:
        return f"{type(error).__name__}: {telling_line(str(error))}"
    target.write_bytes(content)
    return ""
