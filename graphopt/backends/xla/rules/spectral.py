"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES

COMPLEX = {
    "tf.FFT": ("FFT", 1), "tf.FFT2D": ("FFT", 2), "tf.FFT3D": ("FFT", 3),
    "tf.IFFT": ("IFFT", 1), "tf.IFFT2D": ("IFFT", 2), "tf.IFFT3D": ("IFFT", 3),
}  # fmt: skip
REAL = {
    "tf.RFFT": ("RFFT", 1), "tf.RFFT2D": ("RFFT", 2), "tf.RFFT3D": ("RFFT", 3),
    "tf.IRFFT": ("IRFFT", 1), "tf.IRFFT2D": ("IRFFT", 2), "tf.IRFFT3D": ("IRFFT", 3),
}  # fmt: skip


@RULES.lower(*COMPLEX)
def transform(op: Emission) -> Operand:
    """Over the last dimensions."""
    x = op.input(0)
    kind, rank = COMPLEX[op.node.op]
    return _emit(op, x, kind, x.static[x.rank - rank :])


@RULES.lower(*REAL)
def real_transform(op: Emission) -> Operand:
    """Of real signals, cut or padded to the length that is asked for, and back to them."""
    x = op.input(0)
    kind, rank = REAL[op.node.op]
    lengths = [int(number) for number in op.constant_input(1, "the length").reshape(-1)]
    wanted = list(lengths)
    if kind == "IRFFT":
        wanted[-1] = lengths[-1] // 2 + 1
    first = x.rank - rank
    grown = [0] * first + [size - have for size, have in zip(wanted, x.static[first:], strict=True)]
    return _emit(op, op.build.pad(x, [0] * x.rank, grown), kind, lengths)


def _emit(op: Emission, x: Operand, kind: str, lengths: Sequence[int]) -> Operand:
    b = op.build
    dims = list(x.dims)
    if kind == "RFFT":
        dims[-1] = lengths[-1] // 2 + 1
    elif kind == "IRFFT":
        dims[-1] = lengths[-1]
    value = b.hlo.fft(x.value, b.hlo.FftTypeAttr.get(kind), list(lengths), results=[b.type(op.dtype, dims)])
    return b.made(value, op.dtype, dims)
