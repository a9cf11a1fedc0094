"""Fourier transforms."""

from __future__ import annotations

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES

SUFFIX = {1: "", 2: "2D", 3: "3D"}


@RULES.translate("stablehlo.fft")
def fourier(op: Operation) -> Operand:
    """Of one to three of the last axes, of complex or real numbers, there or back."""
    kind, lengths = op.keyword("fft_type", "FftTypeAttr"), op.ints("fft_length")
    if len(lengths) not in SUFFIX:
        op.refuse(f"it transforms {len(lengths)} axes")
    name, build = f"{kind}{SUFFIX[len(lengths)]}", op.build
    if kind in ("FFT", "IFFT"):
        return op.made(build.value(name, op.full(0)))
    return op.made(build.value(name, op.full(0), build.integers(lengths), **_types(op)))


def _types(op: Operation) -> dict[str, object]:
    x, result = op.input(0).dtype, op.dtype()
    return {"Treal": x, "Tcomplex": result} if result.kind == "complex" else {"Tcomplex": x, "Treal": result}
