"""TensorShapeProto, read and written."""

from __future__ import annotations

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats import wire
from graphopt.ir.types import Shape

_FIELDS = {2: "dim", 3: "unknown_rank"}
_DIM_FIELDS = {1: "size", 2: "name"}


class NamedShape(Shape):
    """A shape that says more in the file: `names` of dimensions, empty where there is none, and `sizes` as written.

    Unknown dimensions are written as -1; Grappler gives those that it knows to be equal another negative number.
    """

    __slots__ = ("names", "sizes")

    def __init__(self, sizes: tuple[int, ...], names: tuple[str, ...]):
        super().__init__(None if size < 0 else size for size in sizes)
        self.names, self.sizes = names, sizes


def read_shape(buffer: wire.Buffer, start: int, end: int, *, is_remark: bool = False) -> Shape:
    """The shape between `start` and `end`. Raises `MalformedError` where it contradicts itself.

    Where nobody checks it (`is_remark`) any negative size stands for an unknown dimension, elsewhere only -1.
    """
    sizes: list[int] = []
    names: list[str] = []
    unknown_rank: bool | None = None
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x12:
            size, name = _read_dim(buffer, value, stop)
            if size < -1 and not is_remark:
                raise MalformedError(f"a dimension cannot be {size}", field="shape", offset=value)
            sizes.append(size)
            names.append(name)
        elif tag == 0x18:
            if unknown_rank is not None:
                raise MalformedError("is given twice", field="unknown_rank", offset=start)
            unknown_rank = value != 0
        else:
            wire.unexpected(tag, _FIELDS, start)
            raise MalformedError(f"a shape has no field {tag >> 3}", field="shape", offset=start)
    if unknown_rank:
        if sizes:
            raise MalformedError("a shape of unknown rank lists dimensions", field="shape", offset=start)
        return Shape(None)
    if any(names) or (sizes and min(sizes) < -1):
        return NamedShape(tuple(sizes), tuple(names))
    return Shape([None if size < 0 else size for size in sizes])


def _read_dim(buffer: wire.Buffer, start: int, end: int) -> tuple[int, str]:
    if end - start == 2 and buffer[start] == 0x08 and buffer[start + 1] < 0x80:
        return buffer[start + 1], ""
    size: int | None = None
    name: str | None = None
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x08 and size is None:
            size = wire.signed(value)
        elif tag == 0x12 and name is None:
            name = wire.text(buffer, value, stop, "shape")
        else:
            wire.unexpected(tag, {} if tag in (0x08, 0x12) else _DIM_FIELDS, start)
            known = _DIM_FIELDS.get(tag >> 3)
            raise MalformedError(
                f"'{known}' of a dimension is given twice" if known else f"a dimension has no field {tag >> 3}",
                field="shape",
                offset=start,
            )
    return size or 0, name or ""


def encode_shape(shape: Shape) -> bytes:
    """`shape` as TensorShapeProto; symbolic dimensions become unknown ones."""
    if shape.dims is None:
        return b"\x18\x01"
    if isinstance(shape, NamedShape):
        sizes, names = shape.sizes, shape.names
    else:
        sizes = tuple(dim if isinstance(dim, int) else -1 for dim in shape.dims)
        names = ("",) * len(sizes)
    pieces = []
    for size, name in zip(sizes, names, strict=True):
        pieces.append(wire.tagged(2, wire.tagged_number(1, size) + wire.tagged_text(2, name)))
    return b"".join(pieces)
