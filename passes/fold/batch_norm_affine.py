"""Affine maps of channels, which is what every batch norm is at inference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.types import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, DType

Array = np.ndarray[Any, Any]

FLOATS = frozenset({FLOAT16, BFLOAT16, FLOAT32, FLOAT64})
ONE, ZERO = np.ones((), np.float64), np.zeros((), np.float64)


class Affine(NamedTuple):
    """`scale * x + offset`, with a scale and an offset for each channel along `axis`, counted from the end.

    `scale` and `offset` are float64 arrays of shape () or (channels,), both () where `axis` is None.
    """

    scale: Array
    offset: Array
    axis: int | None

    def after(self, inner: Affine) -> Affine | None:
        """This map of `inner`'s result as one map; None where they run along different channels."""
        axis = inner.axis if self.axis is None else self.axis
        both = self.axis is not None and inner.axis is not None
        if both and (self.axis != inner.axis or self.channels != inner.channels):
            return None
        with np.errstate(all="ignore"):
            return Affine(self.scale * inner.scale, self.scale * inner.offset + self.offset, axis)

    @property
    def channels(self) -> int:
        """Number of channels; 1 where all have the same scale and offset."""
        return max(self.scale.size, self.offset.size)

    @property
    def scales(self) -> bool:
        """Some scale is not one."""
        return bool((self.scale != 1.0).any())

    @property
    def shifts(self) -> bool:
        """Some offset is not zero."""
        return bool((self.offset != 0.0).any())

    def part(self, start: int, stop: int) -> Affine:
        """The map of a run of channels."""
        if self.axis is None:
            return self
        scale, offset = (np.broadcast_to(item, self.channels)[start:stop] for item in (self.scale, self.offset))
        return Affine(scale, offset, self.axis)

    def fixes(self, value: float) -> bool:
        """Every channel maps `value` to itself."""
        return bool((self.scale * value + self.offset == value).all())

    def is_finite_in(self, dtype: DType) -> bool:
        """Every scale and offset is a finite number of `dtype`."""
        return all(np.isfinite(rounded(item, dtype).astype(np.float64)).all() for item in (self.scale, self.offset))


IDENTITY = Affine(ONE, ZERO, None)


def rounded(vector: Array, dtype: DType) -> Array:
    """`vector` in `dtype`; what is out of range becomes infinite."""
    assert dtype.numpy is not None
    with np.errstate(over="ignore"):
        return vector.astype(dtype.numpy)
