"""Parts of complex numbers that are computed from parts of what they are computed from, as reals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.ir.known import known_array
from graphopt.ir.types import COMPLEX64, COMPLEX128, FLOAT32
from graphopt.ir.value import Node, Value

# Operators that move elements of their first input, whatever these are.
MOVES = frozenset(
    {
        "tf.Identity", "tf.StridedSlice", "tf.Slice", "tf.Reshape", "tf.Transpose", "tf.ExpandDims", "tf.Squeeze",
        "tf.GatherV2", "tf.Pad", "tf.BroadcastTo", "tf.Tile", "tf.ReverseV2",
    }
)  # fmt: skip
LINEAR = frozenset({"tf.Add", "tf.AddV2", "tf.Sub", "tf.Neg", "tf.Sum", "tf.Mean"})
LONGEST = 4096  # samples whose transform is written as a product with a matrix
REAL, IMAGINARY = "tf.Real", "tf.Imag"
OPPOSITE = {REAL: IMAGINARY, IMAGINARY: REAL}
Maker = Callable[[Lowering, Node, str], Value]


def part(op: Lowering) -> Value:
    """A part of a sum, product or rearrangement is that of the parts."""
    made = _part_of(op, op.input(0).node, op.node.op)
    if made is None or op.type.dtype is not FLOAT32:
        op.refuse(f"it is a part of what {op.input(0).node.op_type} computes")
    return made


def magnitude(op: Lowering) -> Value:
    """The magnitude of a product or rearrangement is that of the magnitudes, that of a sum follows from its parts."""
    value = op.input(0)
    node = value.node
    if op.type.dtype is not FLOAT32 or node.op not in _PARTS:
        op.refuse(f"it is the magnitude of what {node.op_type} computes")
    if node.op in MOVES:
        return _alike(op, node, [_magnitude(op, node.input(0)), *_present(node)[1:]])
    if node.op in ("tf.Conj", "tf.Neg"):
        return _magnitude(op, node.input(0))
    if node.op == "tf.Mul":
        return op.source("tf.Mul", *(_magnitude(op, factor) for factor in _present(node)), name=op.node.name)
    squares = [op.source("tf.Square", _part(op, value, which)) for which in (REAL, IMAGINARY)]
    return op.source("tf.Sqrt", op.source("tf.AddV2", *squares), name=op.node.name)


def _magnitude(op: Lowering, value: Value) -> Value:
    known = known_array(value)
    if known is not None:
        return op.constant(np.abs(known), f"{value.node.name}/magnitude")
    return op.source("tf.ComplexAbs", value)


def _present(node: Node) -> list[Value]:
    return [value for value in node.inputs if value is not None]


def _part(op: Lowering, value: Value, which: str) -> Value:
    """A part of an operand: known, or what another rule makes of it."""
    known = known_array(value)
    if known is not None:
        return op.constant(np.ascontiguousarray(known.real if which == REAL else known.imag), f"{value.node.name}/part")
    return op.source(which, value)


def _part_of(op: Lowering, node: Node, which: str) -> Value | None:
    make = _PARTS.get(node.op)
    return None if make is None else make(op, node, which)


def _moved(op: Lowering, node: Node, which: str) -> Value:
    return _alike(op, node, [_part(op, node.input(0), which), *_present(node)[1:]])


def _linear(op: Lowering, node: Node, which: str) -> Value:
    if node.op in ("tf.Sum", "tf.Mean"):
        return _moved(op, node, which)
    return _alike(op, node, [_part(op, value, which) for value in _present(node)])


def _alike(op: Lowering, node: Node, inputs: list[Value]) -> Value:
    """A node like `node` that works on reals."""
    attrs = {key: value for key, value in node.attrs.items() if key not in ("T", "Tparams", "_output_shapes")}
    return op.edit.node(node.op, inputs, attrs, name=op.node.name).output


def _product(op: Lowering, node: Node, which: str) -> Value:
    left, right = node.input(0), node.input(1)
    other = OPPOSITE[which]
    first = op.source("tf.Mul", _part(op, left, REAL), _part(op, right, which))
    second = op.source("tf.Mul", _part(op, left, IMAGINARY), _part(op, right, other))
    return op.source("tf.Sub" if which == REAL else "tf.AddV2", first, second, name=op.node.name)


def _pair(op: Lowering, node: Node, which: str) -> Value:
    """One of two numbers, in the shape of both."""
    real, imaginary = node.input(0), node.input(1)
    wanted, other = (real, imaginary) if which == REAL else (imaginary, real)
    if wanted.shape == other.shape:
        return wanted
    return op.source("tf.AddV2", wanted, op.source("tf.ZerosLike", other), name=op.node.name)


def _transformed(op: Lowering, node: Node, which: str) -> Value:
    """A transform of complex numbers, there or back: its parts are sums of products with matrices."""
    samples = node.input(0)
    length = samples.shape[-1] if samples.shape.dims else None
    if not isinstance(length, int) or not 0 < length <= LONGEST:
        op.refuse("how many samples it transforms is not known, or they are too many")
    angles = np.outer(np.arange(length), np.arange(length)) % length * (2 * np.pi / length)
    cosine, sine = np.cos(angles), -np.sin(angles)
    if node.op == "tf.IFFT":
        cosine, sine = cosine / length, -sine / length
    if which == REAL:
        straight, crossed = cosine, -sine
    else:
        straight, crossed = sine, cosine
    found = _times(op, _part(op, samples, REAL), straight, "straight")
    if samples.node.op == "tf.Cast":  # from real numbers
        return found
    return op.source("tf.AddV2", found, _times(op, _part(op, samples, IMAGINARY), crossed, "crossed"))


def _conjugate(op: Lowering, node: Node, which: str) -> Value:
    found = _part(op, node.input(0), which)
    return found if which == REAL else op.source("tf.Neg", found, name=op.node.name)


def _converted(op: Lowering, node: Node, which: str) -> Value:
    """A real number as a complex one."""
    real = node.input(0)
    if real.dtype in (COMPLEX64, COMPLEX128):
        op.refuse("it is a part of a conversion between complex types")
    as_float = op.source("tf.Cast", real, DstT=FLOAT32)
    return as_float if which == REAL else op.source("tf.ZerosLike", as_float)


_PARTS: dict[str, Maker] = {
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys(LINEAR, _linear),
    "tf.Mul": _product,
    "tf.Complex": _pair,
    "tf.Conj": _conjugate,
    "tf.Cast": _converted,
    **dict.fromkeys(("tf.FFT", "tf.IFFT"), _transformed),
}


def parts_by_matrix(op: Lowering, transform: Node, length: int) -> Value:
    """A part, or the magnitude, of a transform of real numbers: products with matrices."""
    samples = _fitted(op, transform.input(0), length)
    angles = np.outer(np.arange(length), np.arange(length // 2 + 1)) % length * (2 * np.pi / length)
    real = _times(op, samples, np.cos(angles), "real") if op.node.op != "tf.Imag" else None
    imaginary = _times(op, samples, -np.sin(angles), "imaginary") if op.node.op != "tf.Real" else None
    if real is None or imaginary is None:
        part = real if real is not None else imaginary
        assert part is not None
        return part
    squares = op.source("tf.AddV2", op.source("tf.Square", real), op.source("tf.Square", imaginary))
    return op.source("tf.Sqrt", squares, name=op.node.name)


def _fitted(op: Lowering, samples: Value, length: int) -> Value:
    """`samples` cut off along their last axis; fewer are none that TensorFlow would transform."""
    there = samples.shape[-1] if samples.shape.dims else None
    if there == length:
        return samples
    if isinstance(there, int) and there < length:
        op.refuse(f"it transforms {length} samples of {there}")
    rank = op.rank(samples)
    sizes = op.integers([-1] * (rank - 1) + [length], f"{op.node.name}/sizes")
    return op.source("tf.Slice", samples, op.integers([0] * rank, f"{op.node.name}/begin"), sizes)


def _times(op: Lowering, samples: Value, matrix: Any, name: str) -> Value:
    if op.rank(samples) < 2:  # a product of matrices needs rows
        row = op.source("tf.ExpandDims", samples, op.integers(0))
        made = op.source("tf.MatMul", row, op.constant(matrix.astype(np.float32), f"{op.node.name}/{name}"))
        return op.source("tf.Squeeze", made, squeeze_dims=(0,), name=op.node.name)
    held = op.constant(matrix.astype(np.float32), f"{op.node.name}/{name}")
    return op.source("tf.BatchMatMulV2", samples, held, name=op.node.name)


def inverse_transform(op: Lowering) -> Value:
    """The signal of a spectrum: its parts times a matrix each."""
    spectrum = op.input(0)
    length = int(op.constant_input(1, "the length").reshape(-1)[0])
    there = spectrum.shape[-1] if spectrum.shape.dims else None
    bins = length // 2 + 1
    if op.type.dtype is not FLOAT32 or not 0 < length <= LONGEST:
        op.refuse(f"{length} samples of {op.type.dtype.name} are not computed by a matrix")
    if op.rank(spectrum) < 2 or not isinstance(there, int) or there < bins:
        op.refuse(f"it is not known to have {bins} frequencies in rows")
    angles = np.outer(np.arange(bins), np.arange(length)) % length * (2 * np.pi / length)
    weights = np.full((bins, 1), 2.0 / length)
    weights[0] = 1.0 / length
    if length % 2 == 0:
        weights[-1] = 1.0 / length
    sums = []
    for which, matrix in ((REAL, np.cos(angles) * weights), (IMAGINARY, -np.sin(angles) * weights)):
        rows = np.zeros((there, length), np.float32)
        rows[:bins] = matrix
        held = op.constant(rows, f"{op.node.name}/{which[3:].lower()}")
        sums.append(op.source("tf.BatchMatMulV2", _part(op, spectrum, which), held))
    return op.source("tf.AddV2", *sums, name=op.node.name)
