"""Inputs to run a model on: drawn at random with spread, or read from an `.npz`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.infer import infer_model, infer_node
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model, Signature
from graphopt.ir.types import DType, Shape, TensorType, dereferenced, dtype_of
from graphopt.ir.value import Value
from graphopt.names import close_names

if TYPE_CHECKING:
    import numpy as np

Sample: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"
Samples: TypeAlias = "Sequence[Mapping[str, np.ndarray[Any, Any]]]"

FIRST_SIZE, OTHER_SIZE, IMAGE_SIZE = 1, 8, 32  # for dimensions nobody knows: the batch, others, sides of images
INDEX_BOUND = 10  # integers of unknown meaning stay below this
LOOKED_THROUGH = 256  # readers visited to find what bounds an integer input
ELEMENTS_LIMIT = 1 << 28  # elements of one random input
_LOOKUPS = {"tf.Gather": 0, "tf.GatherV2": 0, "tf.ResourceGather": 0}  # operator -> position of the table
_SAME_VALUES = frozenset(
    {
        "tf.Identity", "tf.IdentityN", "tf.Cast", "tf.Reshape", "tf.ExpandDims", "tf.Squeeze", "tf.Transpose",
        "tf.Slice", "tf.StridedSlice", "tf.Placeholder",
    }
)  # fmt: skip


def signature_of(model: Model, name: str | None = None) -> Signature:
    """The signature called `name`, or the first. Raises `UsageError` if there is none."""
    if name is None:
        if not model.signatures:
            raise UsageError("the model has no signature: load it with graphopt.load, or name inputs and outputs")
        return next(iter(model.signatures.values()))
    if name not in model.signatures:
        raise UsageError(f"there is no signature '{printable(name)}'{close_names(name, model.signatures)}")
    return model.signatures[name]


# Random -------------------------------------------------------------------------------------------------------


def random_inputs(
    model: Model,
    count: int = 1,
    seed: int = 0,
    *,
    dimensions: Mapping[str, int] | None = None,
    signature: str | None = None,
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """`count` samples for the inputs of `model`, the same for the same `seed`.

    Floats are normal with deviation 1, integers that index a table stay inside it, other integers lie below 10
    (8-bit ones cover their range), booleans are fair. Unknown dimensions are 1 at the front, 32 for the sides of
    images and 8 elsewhere; `dimensions` gives the size of named ones.

    Raises `UsageError` for an input nobody can draw: a string, a handle, or one of unknown rank.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    plans = [
        (name, kind.dtype, _size(name, kind.shape.substitute(dimensions or {})), _bound(value, kind.dtype))
        for name, (value, kind) in _typed_inputs(model, signature).items()
    ]
    return [
        {name: _draw(generator, name, dtype, shape, bound) for name, dtype, shape, bound in plans} for _ in range(count)
    ]


def _typed_inputs(model: Model, signature: str | None) -> dict[str, tuple[Value, TensorType]]:
    """The inputs with all that can be known of their types; `model` stays as it is."""
    inputs = signature_of(model, signature).input_values()
    typed = {name: (value, _type_of(value)) for name, value in inputs.items()}
    if all(kind.shape.dims is not None and kind.dtype.code for _, kind in typed.values()):
        return typed
    copy = model.clone()  # an input in the midst of the graph: its type follows from what comes before it
    infer_model(copy)
    inferred = signature_of(copy, signature).input_values()
    return {name: (value, inferred[name].type) for name, value in inputs.items()}


def typed_inputs(model: Model, signature: str | None = None) -> dict[str, TensorType]:
    """What is known of the type of each input of a signature, in order."""
    return {name: kind for name, (_, kind) in _typed_inputs(model, signature).items()}


def _type_of(value: Value) -> TensorType:
    """The type a value has, or that its node declares."""
    kind = value.type
    if (kind.shape.dims is None or not kind.dtype.code) and not value.node.input_count:
        return infer_node(value.node)[value.index]
    return kind


def _size(name: str, shape: Shape) -> tuple[int, ...]:
    if shape.dims is None:
        raise UsageError(f"the shape of input '{printable(name)}' is not known: give data instead of random inputs")
    image = len(shape.dims) == 4
    sizes = tuple(
        dim if isinstance(dim, int) else FIRST_SIZE if place == 0 else IMAGE_SIZE if image else OTHER_SIZE
        for place, dim in enumerate(shape.dims)
    )
    total = 1
    for size in sizes:
        total *= size
    if total > ELEMENTS_LIMIT:
        raise UsageError(f"input '{printable(name)}' of shape {shape} is too large to draw at random: give data")
    return sizes


def _draw(generator: Any, name: str, dtype: DType, shape: tuple[int, ...], bound: int | None) -> Any:
    dtype = dereferenced(dtype)
    kind = dtype.kind
    if dtype.numpy is None or kind == "string":
        raise UsageError(f"nobody can draw input '{printable(name)}' of type {dtype.name} at random: give data")
    if kind == "bool":
        return generator.random(shape) < 0.5
    if kind == "complex":
        return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(dtype.numpy)
    if kind == "float":
        return generator.standard_normal(shape).astype(dtype.numpy)
    low, high = 0, bound if bound is not None else INDEX_BOUND
    if dtype.bits <= 8 and bound is None:
        signed = dtype.name.startswith(("int", "qint"))
        low, high = (-(1 << (dtype.bits - 1)), 1 << (dtype.bits - 1)) if signed else (0, 1 << dtype.bits)
    return generator.integers(low, max(high, low + 1), shape).astype(dtype.numpy)


def _bound(value: Value, dtype: DType) -> int | None:
    """For an integer input that indexes tables: the rows of the smallest."""
    if not dereferenced(dtype).is_integer:
        return None
    bounds: list[int] = []
    pending, seen = [value], {value: None}
    while pending and len(seen) < LOOKED_THROUGH:
        for node, place in pending.pop().uses:
            table = _LOOKUPS.get(node.op)
            if table is not None and place == 1:
                bounds += _rows(node.input(table), node.input(2) if node.input_count > 2 else None)
            elif node.op in _SAME_VALUES and place == 0:
                for output in node.outputs:
                    if output not in seen:
                        seen[output] = None
                        pending.append(output)
    return min(bounds, default=None)


def _rows(table: Value, axis: Value | None) -> Iterator[int]:
    held = known_tensor(axis)
    place = int(held.numpy().reshape(-1)[0]) if held is not None and held.size == 1 else 0
    weights = known_tensor(table)
    shape = table.shape if weights is None else Shape(weights.shape)
    if shape.dims is not None and -len(shape.dims) <= place < len(shape.dims):
        size = shape.dims[place]
        if isinstance(size, int):
            yield size


# From a file --------------------------------------------------------------------------------------------------


def read_samples(
    path: str | os.PathLike[str], model: Model, *, signature: str | None = None
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """The samples in an `.npz`: one array for each input, shaped (samples, *the input's own shape, batch included*).

    Raises `MalformedError` where the file is no `.npz` and `UsageError` where its arrays do not fit the inputs.
    """
    arrays = _read_arrays(os.fspath(path))
    return split_samples(arrays, model, source=os.fspath(path), signature=signature)


def _read_arrays(path: str) -> dict[str, Any]:
    import numpy as np

    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise MalformedError("a single array, where an .npz with one array per input was expected", source=path)
        with archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        objects = str(error).startswith("Object arrays")  # anything that is no .npz at all counts as a pickle
        reason = "it holds Python objects" if objects else "it is damaged or something else"
        raise MalformedError(f"this cannot be read as an .npz of plain arrays: {reason}", source=path) from error


def split_samples(
    arrays: Mapping[str, Any],
    model: Model,
    *,
    source: str = "data",
    signature: str | None = None,
    left_out: Sequence[str] = (),
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Arrays with a leading axis of samples as a list of samples, for all inputs but those `left_out`.

    Raises `UsageError` where they do not fit.
    """
    inputs = {name: item for name, item in _typed_inputs(model, signature).items() if name not in left_out}
    named = {name.removesuffix(":0"): array for name, array in arrays.items()}
    wanted = {name.removesuffix(":0"): name for name in inputs}
    where = printable(source)
    for name in named:
        if name not in wanted:
            there = close_names(name, wanted) or f"; the inputs are: {', '.join(map(printable, wanted)) or 'none'}"
            raise UsageError(f"{where}: the model has no input '{printable(name)}'{there}")
    missing = [name for name in wanted if name not in named]
    if missing:
        raise UsageError(f"{where}: there is no array for input '{printable(missing[0])}'")
    fitted = {original: _fit(named[name], inputs[original][1], name, where) for name, original in wanted.items()}
    counts = {name: len(array) for name, array in fitted.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{printable(name)}' {count}" for name, count in counts.items())
        raise UsageError(f"{where}: the inputs have different numbers of samples: {listed}")
    count = next(iter(counts.values()), 1)
    if not count:
        raise UsageError(f"{where}: there are no samples in it")
    return [{name: array[place] for name, array in fitted.items()} for place in range(count)]


def _fit(array: Any, kind: TensorType, name: str, where: str) -> Any:
    """`array` in the type of the input, after checking that its shape is (samples, *shape of the input)."""
    import numpy as np

    array = np.asarray(array)
    if array.ndim == 0 or Shape(array.shape[1:]).merged(kind.shape) is None:
        raise UsageError(
            f"{where}: array '{printable(name)}' of shape {list(array.shape)} does not fit (samples, *{kind.shape}); "
            "its first axis counts samples, before the batch of the input itself"
        )
    return _cast(array, kind, name, where)


def fit_sample(array: Any, kind: TensorType, name: str, where: str) -> Any:
    """One sample of one input in the input's type. Raises `UsageError`, saying `where`, for another shape or type."""
    import numpy as np

    array = np.asarray(array)
    check_sample_shape(array.shape, kind, name, where)
    return _cast(array, kind, name, where)


def check_sample_shape(shape: tuple[int, ...], kind: TensorType, name: str, where: str) -> None:
    """Raise `UsageError` unless a sample of this shape fits the input."""
    if Shape(shape).merged(kind.shape) is not None:
        return
    hint = ""
    if Shape((1, *shape)).merged(kind.shape) is not None:
        hint = "; the input's batch dimension is missing in front"
    elif len(shape) == 4 and Shape((shape[0], *shape[2:], shape[1])).merged(kind.shape) is not None:
        hint = "; its channels come first, the input's last"
    raise UsageError(f"{where}: input '{printable(name)}' takes shape {kind.shape}, not {list(shape)}{hint}")


def _cast(array: Any, kind: TensorType, name: str, where: str) -> Any:
    """`array` in the element type of the input."""
    wanted = dereferenced(kind.dtype)
    try:
        given = dtype_of(array)
    except TypeError as error:
        raise UsageError(f"{where}: array '{printable(name)}': {error}") from error
    if given is wanted or not wanted.code:
        return _as_bytes(array) if given.kind == "string" else array
    if wanted.numpy is None or "string" in (given.kind, wanted.kind) or not _casts(array, wanted):
        raise UsageError(f"{where}: array '{printable(name)}' is {given.name}, the input {wanted.name}")
    return array.astype(wanted.numpy)


def _casts(array: Any, wanted: DType) -> bool:
    """Nothing but precision is lost: float to float, integers that stay the same."""
    import numpy as np

    if array.dtype.kind in "iu" and wanted.is_integer:
        return bool((array == array.astype(wanted.numpy)).all())
    if wanted.is_float:
        return array.dtype.kind in "fiub" or array.dtype.itemsize <= 2
    return wanted.numpy is not None and np.can_cast(array.dtype, wanted.numpy, "safe")


def _as_bytes(array: Any) -> Any:
    import numpy as np

    converted = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        item = array[index]
        converted[index] = item.encode() if isinstance(item, str) else bytes(item)
    return converted
