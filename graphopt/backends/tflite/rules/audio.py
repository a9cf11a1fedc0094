"""Sound: Fourier transforms of real signals, spectrograms and cepstral coefficients."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.custom import custom_options, described_attributes
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import COMPLEX64, FLOAT32, Shape, TensorType
from graphopt.ir.value import Value

SHORTEST = 4  # samples that LiteRT transforms


@RULES.legalize("tf.RFFT")
def real_transform(op: Lowering) -> Value:
    """The transform of a row is that of a matrix of one row. Its length is a power of two."""
    samples = op.input(0)
    _check(op, samples, 1)
    length = int(op.constant_input(1, "the length").reshape(-1)[0])
    axis = op.integers(-2, name=f"{op.node.name}/axis")
    rows = op.source("tf.ExpandDims", samples, axis, name=f"{op.node.name}/rows")
    dims = op.type.shape.dims
    made = None if dims is None else [*dims[:-1], 1, dims[-1]]
    lengths = op.integers([1, length], name=f"{op.node.name}/length")
    shape = TensorType(COMPLEX64, Shape(made))
    found = op.emit("RFFT2D", rows, lengths, type=shape, name=f"{op.node.name}/transform")
    return op.source("tf.Squeeze", found, squeeze_dims=(-2,), name=op.node.name)


@RULES.legalize("tf.RFFT2D")
def real_transform_of_matrices(op: Lowering) -> Value:
    """The transform of matrices whose sides are powers of two."""
    _check(op, op.input(0), 2)
    return op.emit("RFFT2D", op.input(0), op.integers(op.constant_input(1, "the length"), f"{op.node.name}/length"))


def _check(op: Lowering, samples: Value, rank: int) -> None:
    if op.type.dtype is not COMPLEX64:
        op.refuse(f"LiteRT transforms float32 to complex64, not to {op.type.dtype.name}", "build it in float32")
    if op.rank(samples) < rank:
        op.refuse(f"its operand has less than {rank} dimensions")
    lengths = [int(length) for length in op.constant_input(1, "the length").reshape(-1)]
    if not all(map(is_power_of_two, lengths)) or lengths[-1] < SHORTEST:
        op.refuse(
            f"its length {' by '.join(map(str, lengths))} is no power of two from 4 on", "choose a longer one that is"
        )


def is_power_of_two(number: int) -> bool:
    """1, 2, 4, 8, …"""
    return number > 0 and number & (number - 1) == 0


@RULES.legalize("tf.AudioSpectrogram", "tf.Mfcc")
def custom_of_litert(op: Lowering) -> Sequence[Value]:
    """Spectrograms and cepstral coefficients: custom operators that LiteRT has kernels for."""
    options = custom_options(described_attributes(op.node))
    attrs = {"custom_code": op.node.op_type.encode(), "custom_options": options}
    if any(value.dtype is not FLOAT32 for value in (op.input(0), op.node.output)):
        op.refuse("LiteRT computes it in float32", "build it in float32")
    return op.emit_node("CUSTOM", op.inputs, None, op.node.name, attrs).outputs
