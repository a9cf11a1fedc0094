"""Random valid models: TensorFlow accepts and runs every one of them, and its outputs have spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim, SymbolicDim
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32, INT32, DType, dereferenced
from graphopt.ir.value import Value
from graphopt.testing import blocks, call_blocks, layout_blocks
from graphopt.testing.blocks import Block
from graphopt.testing.builder import Builder, Choices, Dims, Known, SeededChoices

Array = np.ndarray[Any, Any]

# What comes first is what hypothesis shrinks to; what is listed twice comes twice as often.
COMMON: Sequence[Block] = (
    blocks.unary, blocks.with_constant, blocks.of_two, layout_blocks.reshape, layout_blocks.transpose,
    blocks.matmul, blocks.matmul, blocks.convolution, blocks.convolution, blocks.convolution, blocks.pool,
    blocks.reduce, blocks.reflect, blocks.add_many, blocks.cast, blocks.compare, blocks.rank_elements, blocks.classify,
    layout_blocks.split, layout_blocks.unpack, layout_blocks.concatenate, layout_blocks.stack, layout_blocks.pad,
    layout_blocks.expand_and_squeeze, layout_blocks.reshape_by_shape, layout_blocks.duplicate,
    layout_blocks.duplicate, layout_blocks.dead_branch, layout_blocks.wait,
)  # fmt: skip
CALLS: Sequence[Block] = (call_blocks.call, call_blocks.call, call_blocks.branch, call_blocks.loop)


def random_model(seed: int, size: int = 12, *, functions: bool = True) -> Model:
    """A random model of about `size` blocks, the same for the same arguments. Some blocks make several nodes."""
    return build_model(SeededChoices(seed), size, functions=functions)


def build_model(choices: Choices, size: int, *, functions: bool = True) -> Model:
    """A random model of `size` blocks, as `choices` decide."""
    model = Model(Graph())
    model.versions = (1882, 0, ())
    builder = Builder(choices, model, model.graph, shaped=bool(choices.below(2)))
    batch = (None, 2, 1)[choices.below(3)]
    for _ in range(1 + choices.below(2)):
        builder.add_input(_input_dims(choices, batch))
    inputs = list(builder.pool)
    repertoire = [*COMMON, *CALLS] if functions else list(COMMON)
    for _ in range(size):
        if builder.chance(5):
            builder.enter_scope()
        builder.pick(repertoire)(builder)
    _choose_outputs(builder, inputs)
    return model


def _input_dims(choices: Choices, batch: int | None) -> Dims:
    if choices.below(2):
        side = 3 + choices.below(5)
        return (batch, side, side + choices.below(2), 1 + choices.below(4))
    return (batch, 2 + choices.below(7))


def _choose_outputs(builder: Builder, inputs: Sequence[Known]) -> None:
    """One to three outputs: the last value that varies, the inputs' means added so that it surely does, and others.

    No output is an input itself.
    """
    made = [known for known in builder.pool if not known.value.is_input]
    lively = [known for known in made if known.varies and known.dtype is FLOAT32]
    chosen = {_anchored(builder, lively[-1] if lively else inputs[0], inputs): None}
    for _ in range(builder.choices.below(3) if made else 0):
        chosen[builder.pick(list(reversed(made))).value] = None
    graph = builder.graph
    outputs = []
    for place, value in enumerate(chosen):
        if builder.chance(2):
            outputs.append(value)
            continue
        types = (value.type,)
        node = graph.create_node("tf.Identity", [value], {"T": value.dtype}, name=f"output_{place}", types=types)
        outputs.append(node.output)
    names = {f"y{place}": value for place, value in enumerate(outputs)}
    fed = {f"x{place}": known.value for place, known in enumerate(inputs)}
    builder.model.set_signature(fed, names)


def _anchored(builder: Builder, known: Known, inputs: Sequence[Known]) -> Value:
    known = builder.quiet(known)
    for source in inputs:
        axes = builder.constant(np.arange(len(source.dims), dtype=np.int32))
        mean = builder.node("Mean", [source.value, axes], {"T": FLOAT32, "Tidx": INT32, "keep_dims": False}, ())
        known = builder.node("AddV2", [known.value, mean.value], {"T": FLOAT32}, known.dims)
    return known.value


def random_feeds(model: Model, seed: int = 0, *, signature: str | None = None, unknown: int = 2) -> dict[str, Array]:
    """Random inputs with spread, by the names of the signature, or of the graph's inputs where there is none.

    Floats are normally distributed, integers from 0 to 4. A dimension that is not known has `unknown` elements, and
    an input of unknown rank is a vector. The same arguments give the same arrays.
    """
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for name, value in _inputs(model, signature).items():
        dims = value.shape.dims if value.shape.dims is not None else (None,)
        shape = [_size(dim, sizes, unknown) for dim in dims]
        feeds[name] = _random_array(generator, dereferenced(value.dtype), shape, name)
    return feeds


def _inputs(model: Model, signature: str | None) -> Mapping[str, Value]:
    if signature is not None and signature not in model.signatures:
        raise UsageError(f"there is no signature '{printable(signature)}'")
    default = "serving_default" if "serving_default" in model.signatures else next(iter(model.signatures), None)
    chosen = signature if signature is not None else default
    if chosen is not None:
        return model.signatures[chosen].input_values()
    return {value.name: value for value in model.graph.inputs}


def _size(dim: Dim, sizes: dict[str, int], unknown: int) -> int:
    if dim is None:
        return unknown
    if isinstance(dim, SymbolicDim):
        for name in sorted(dim.names):
            sizes.setdefault(name, unknown)
        size = dim.substitute(sizes)
        return max(size, 0) if isinstance(size, int) else unknown
    return dim


def _random_array(generator: np.random.Generator, dtype: DType, shape: Sequence[int], name: str) -> Array:
    if dtype.numpy is None or dtype.kind == "unknown":
        raise UsageError(f"no random array can stand for input '{printable(name)}' of type {dtype}: give feeds")
    if dtype.kind == "string":
        array = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            array[index] = bytes(generator.integers(97, 123, 3, dtype=np.uint8))
        return array
    if dtype.kind == "bool":
        return generator.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind == "complex":
        return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(dtype.numpy)
    if dtype.is_float:
        return np.clip(generator.standard_normal(shape), -3, 3).astype(dtype.numpy)
    high = 2 if dtype.bits < 4 else 5
    return generator.integers(0, high, shape).astype(dtype.numpy)
