"""What makes a graph plain before it is emitted: one form for each computation, shapes known or named."""

from __future__ import annotations

from typing import Any, NamedTuple

from graphopt.backends.ends import drop_idle_targets, plain_outputs
from graphopt.backends.xla.options import XlaOptions
from graphopt.backends.xla.state import State, changed_variables, thread_state
from graphopt.freezing import freeze_model
from graphopt.ir.dimensions import Dim, symbol
from graphopt.ir.graph import Graph
from graphopt.ir.infer import dimension_name, forget_shapes, infer_model, infer_node
from graphopt.ir.model import Model
from graphopt.ir.types import Shape
from graphopt.passes.manager import PassManager
from graphopt.passes.report import RunReport

PREPARE = (
    "strip-unused,sort{canonical=true},raise-control-flow,nest-cases,inline-functions{always=true},"
    "take-constant-branches,remove-nodes{dropout=true,assertions=true,defaults=true},"
    "remove-control-dependencies,infer-shapes,fold-constants,simplify,fold-batch-norms,merge-loop-variables,"
    "specialise-functions,plain-tensor-arrays,plain-tensor-lists,merge-duplicates,strip-unused,"
    "remove-unused-functions"
)
ROUNDS = 8
BATCH = "batch"


class Prepared(NamedTuple):
    """A model with one signature, and the variables among its inputs and outputs."""

    model: Model
    state: tuple[State, ...]


def prepared(model: Model, name: str, options: XlaOptions, report: RunReport) -> Prepared:
    """A copy of `model` with one signature, frozen and plain, whose inputs have numbers or names for dimensions.

    Variables that the signature changes are inputs and outputs. Raises `UnloweredError` for those that cannot be.
    """
    part = model.clone()
    freeze_model(part, signature=name, exceptions=changed_variables(part, name))
    part.signatures = {name: part.signatures[name]}
    part.metadata = {}
    state = thread_state(part, name)
    drop_idle_targets(part)
    if name_dimensions(part.graph, options):
        forget_shapes(part.graph)
        infer_model(part)
    done = PassManager(PREPARE, verify_each=False, rounds=ROUNDS).run(part)
    report.passes += done.passes
    report.seconds += done.seconds
    plain_outputs(part)
    return Prepared(part, state)


def name_dimensions(graph: Graph, options: XlaOptions) -> bool:
    """Give unknown dimensions of the inputs their numbers or names; the leading one has the same name everywhere."""
    changed = False
    for value in graph.inputs:
        if value.type.shape.dims is None:
            value.type = infer_node(value.node)[value.index]
        dims = value.type.shape.dims
        if dims is None or all(isinstance(dim, int) for dim in dims):
            continue
        named = [
            dim if isinstance(dim, int) else _named(dimension_name(value, axis), axis, options)
            for axis, dim in enumerate(dims)
        ]
        value.type = value.type.with_shape(Shape(named))
        attrs: dict[str, Any] = value.node.attrs
        if "shape" in attrs:
            attrs["shape"] = Shape(dim if isinstance(dim, int) else None for dim in named)
        attrs.pop("_output_shapes", None)
        changed = True
    return changed


def _named(name: str, axis: int, options: XlaOptions) -> Dim:
    if axis == 0:
        return options.batch if options.batch is not None else symbol(BATCH)
    return options.unknown if options.unknown is not None else symbol(name)
