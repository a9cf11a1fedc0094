"""freeze-tables: give lookup tables their contents as constants, instead of a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.formats.confinement import inside
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold
from graphopt.ir.model import Model
from graphopt.ir.ops.handles import maker
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import INT64, STRING, DType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext

FROM_FILE = {
    "tf.InitializeTableFromTextFile": "tf.InitializeTable",
    "tf.InitializeTableFromTextFileV2": "tf.InitializeTableV2",
}
WHOLE_LINE, LINE_NUMBER = -2, -1  # what `key_index` and `value_index` may say instead of a column


@dataclass(frozen=True)
class FreezeTables(Pass):
    """Initialise tables from constants where they were initialised from text files among the model's assets.

    *Given* an asset `words.txt` with the lines `a` and `b`, whose name `file` is

        %t = tf.HashTableV2() {key_dtype = string, value_dtype = int64}
        %init = tf.InitializeTableFromTextFileV2(%t, %file) {key_index = -2, value_index = -1}

    *Result*

        %t = tf.HashTableV2() {key_dtype = string, value_dtype = int64}
        %init/keys = tf.Const() {value = string[2] [b"a", b"b"]}
        %init/values = tf.Const() {value = int64[2] [0, 1]}
        %init = tf.InitializeTableV2(%t, %init/keys, %init/values)

    The graph then needs no file beside it. The initialiser stays what has to be run once.

    Refuses files that are no assets of the model, files larger than `max_bytes`, and lines that are not what the
    table holds.
    """

    name: ClassVar[str] = "freeze-tables"
    max_bytes: int = 64 << 20

    def run(self, model: Model, context: PassContext) -> None:
        """Freeze tables that the main graph initialises."""
        graph = model.graph
        for node in graph:
            if node.op not in FROM_FILE:
                continue
            contents = self._contents(model, node)
            if isinstance(contents, str):
                context.refused(self.name, node, contents)
            elif context.allows(self.name):
                _initialise(graph, node, *contents)
                context.rewrote(self.name, removed=(node,), added=(node,))

    def _contents(self, model: Model, node: Node) -> tuple[Tensor, Tensor] | str:
        """Keys and values, or why they cannot be had."""
        table = maker(node.input(0))
        dtypes = [table.attrs.get(name) if table is not None else None for name in ("key_dtype", "value_dtype")]
        if not all(isinstance(dtype, DType) for dtype in dtypes):
            return "it is not known what the table holds"
        path = asset_path(model, node.input(1))
        if path is None:
            return "its file is no asset of the model"
        if os.path.getsize(path) > self.max_bytes:
            return f"the file '{printable(os.path.basename(path))}' is larger than {self.max_bytes} bytes"
        with open(path, "rb") as file:
            lines = file.read().replace(b"\r", b"").split(b"\n")
        lines = lines[:-1] if not lines[-1] else lines
        lines = lines[max(0, int(node.attrs.get("offset", 0))) :]
        size = int(node.attrs.get("vocab_size", -1))
        if size >= 0 and len(lines) < size:
            return f"the file has {len(lines)} lines and should have {size}"
        lines = lines if size < 0 else lines[:size]
        delimiter = node.attrs.get("delimiter", b"\t")
        places = (int(node.attrs.get("key_index", 0)), int(node.attrs.get("value_index", 0)))
        try:
            keys, values = (
                _column(lines, place, delimiter, dtype)
                for place, dtype in zip(places, dtypes, strict=True)
                if isinstance(dtype, DType)
            )
        except (ValueError, IndexError, OverflowError) as error:
            return f"the file does not hold what the table does: {printable(str(error))}"
        return keys, values


def asset_path(model: Model, name: Value) -> str | None:
    """The file of the asset whose name the value `name` is, if the model's folder has it."""
    carried = model.metadata.get("metagraph")
    root = getattr(carried, "root", "")
    node = _source(name)
    for asset in getattr(carried, "assets", ()) if root else ():
        if asset.tensor.partition(":")[0] == node.name:
            path = inside(root, asset.filename if os.path.isabs(asset.filename) else f"assets/{asset.filename}")
            return path if os.path.isfile(path) else None
    return None


def _source(value: Value) -> Node:
    """Where a string comes from, through a variable too that is given it and nothing else."""
    node = value.node
    if node.op == "tf.Identity":
        node = node.input(0).node
    if node.op == "tf.ReadVariableOp":
        variable = maker(node.input(0))
        users = variable.output.users if variable is not None else ()
        given = [user for user in users if user.op == "tf.AssignVariableOp"]
        if len(given) == 1:
            return given[0].input(1).node
    return node


def _column(lines: Sequence[bytes], place: int, delimiter: bytes, dtype: DType) -> Tensor:
    """One column of a file. Raises `ValueError` or `IndexError` for a line that does not have it."""
    if place == LINE_NUMBER:
        if dtype is not INT64:
            raise ValueError(f"numbers of lines are int64, not {dtype}")
        return tensor(np.arange(len(lines), dtype=np.int64))
    fields: Sequence[Any] = lines if place == WHOLE_LINE else [line.split(delimiter)[place] for line in lines]
    if dtype is STRING:
        held = np.empty(len(fields), object)
        held[:] = fields
        return tensor(held, STRING)
    if dtype.numpy is None or not (dtype.is_float or dtype.is_integer):
        raise ValueError(f"a text does not hold {dtype}")
    convert = float if dtype.is_float else int
    return tensor(np.array([convert(field) for field in fields], dtype.numpy))


def _initialise(graph: Graph, node: Node, keys: Tensor, values: Tensor) -> None:
    handle = node.input(0)
    held = [
        hold(graph, data, name=f"{node.name}/{what}", before=node, origins=node.source_names)
        for what, data in (("keys", keys), ("values", values))
    ]
    marks = {name: value for name, value in node.attrs.items() if name.startswith("_")}
    node.op, node.extras = FROM_FILE[node.op], None
    node.attrs = {**marks, "Tkey": keys.dtype, "Tval": values.dtype}
    node.set_inputs((handle, *held))
