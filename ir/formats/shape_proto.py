"""TensorShapeProto, read and written."""

from __future__ import annotations

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats import wire
from graphopt.ir.types import Shape

_FIELDS = {2: "dim", 3: "unknown_rank"}
_DIM_FIELDS = {1: "size", 2: "name"}


class NamedShape(Shape):
    """A shape whose dimensions carry names in the file; `names` has one for each, empty where there is none."""

    __slots__ = ("names",)

    def __init__(self, dims: tuple[int | None, ...], names: tuple[str, ...]):
        super().__init__(dims)
        self.names = names


def read_shape(buffer: wire.Buffer, start: int, end: int) -> Shape:
    """The shape between `start` and `end`. Raises `MalformedError` where it contradicts itself."""
    dims: list[int | None] = []
    names: list[str] = []
    unknown_rank: bool | None = None
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x12:
            size, name = _read_dim(buffer, value, stop)
            dims.append(size)
            names.append(name)
        elif tag == 0x18:
            if unknown_rank is not None:
                raise MalformedError("is given twice", field="unknown_rank", offset=start)
            unknown_rank = value != 0
        else:
            wire.unexpected(tag, _FIELDS, start)
            raise MalformedError(f"a shape has no field {tag >> 3}", field="shape", offset=start)
    if unknown_rank:
        if dims:
            raise MalformedError("a shape of unknown rank lists dimensions", field="shape", offset=start)
        return Shape(None)
    return NamedShape(tuple(dims), tuple(names)) if any(names) else Shape(dims)


def _read_dim(buffer: wire.Buffer, start: int, end: int) -> tuple[int | None, str]:
    if end - start == 2 and buffer[start] == 0x08 and buffer[start + 1] < 0x80:
        return buffer[start + 1], ""
    size: int | None = None
    name: str | None = None
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x08 and size is None:
            size = wire.signed(value)
            if size < -1:
                raise MalformedError(f"a dimension cannot be {size}", field="shape", offset=start)
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
    size = size or 0
    return (None if size == -1 else size), name or ""


def encode_shape(shape: Shape) -> bytes:
    """`shape` as TensorShapeProto; symbolic dimensions become unknown ones."""
    if shape.dims is None:
        return b"\x18\x01"
    names = shape.names if isinstance(shape, NamedShape) else ("",) * len(shape.dims)
    pieces = []
    for dim, name in zip(shape.dims, names, strict=True):
        size = dim if isinstance(dim, int) else -1
        pieces.append(wire.tagged(2, wire.tagged_number(1, size) + wire.tagged_text(2, name)))
    return b"".join(pieces)
