"""Samples from whatever a caller has, one at a time, so that their number does not matter for memory.

`Stream` gives dicts by input name, checked against the model's inputs, and how many there are, where that is known.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.model import Model
from graphopt.names import close_names
from graphopt.samples import check_sample_shape, fit_sample, split_samples, typed_inputs

if TYPE_CHECKING:
    import numpy as np

Sample = dict[str, "np.ndarray[Any, Any]"]
_HEADER_LIMIT = 10_000  # characters of an array's header in an .npz


class Stream(NamedTuple):
    """Samples of one signature: `length` of them, or None if nobody knows before the end."""

    samples: Iterable[Sample]
    length: int | None


def stream_samples(data: Any, model: Model, *, signature: str | None = None, left_out: Sequence[str] = ()) -> Stream:
    """The samples in `data`: the path of an `.npz`, a mapping of arrays with a leading axis of samples, or an iterable.

    An iterable (a `tf.data.Dataset`, too, or a function that returns one) yields dicts by input name, or arrays in the
    order of the signature's inputs: a list or tuple, or the array itself for a model with one input. Inputs
    `left_out` need no data. Raises `UsageError` for data that do not fit the model, `MalformedError` for no `.npz`.
    """
    inputs = {name: kind for name, kind in typed_inputs(model, signature).items() if name not in left_out}
    if isinstance(data, (str, os.PathLike)):
        return _from_file(os.fspath(data), inputs)
    if isinstance(data, Mapping):
        samples = split_samples(data, model, signature=signature, left_out=left_out)
        return Stream(samples, len(samples))
    if callable(data) and not hasattr(data, "__iter__"):
        data = data()
    if hasattr(data, "as_numpy_iterator"):
        data = data.as_numpy_iterator()
    if not isinstance(data, Iterable):
        raise UsageError(
            f"samples cannot be read from a {printable(type(data).__name__)}; give the path of an .npz, a mapping of "
            "arrays, or an iterable of samples"
        )
    length = len(data) if isinstance(data, Sequence) else getattr(data, "shape", (None,))[0]
    return Stream(_from_iterable(data, inputs), length)


def _from_iterable(data: Iterable[Any], inputs: Mapping[str, Any]) -> Iterator[Sample]:
    for number, sample in enumerate(data):
        where = f"sample {number}"
        yield {
            name: fit_sample(array, inputs[name], name, where)
            for name, array in _by_name(sample, inputs, where).items()
        }


def _by_name(sample: Any, inputs: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arrays of a sample under the names of the inputs. Raises `UsageError` where they do not correspond."""
    if isinstance(sample, Mapping):
        return match_names(sample, inputs, where)
    listed = list(sample) if isinstance(sample, (list, tuple)) else [sample]
    if len(listed) != len(inputs):
        names = ", ".join(map(printable, inputs)) or "none"
        raise UsageError(f"{where}: {len(listed)} arrays for {len(inputs)} inputs ({names}); give a dict by name")
    return dict(zip(inputs, listed, strict=True))


def match_names(given: Mapping[str, Any], inputs: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What is given for each input, in their order; `:0` may be there or not. Raises `UsageError` for other names."""
    named = {name.removesuffix(":0"): item for name, item in given.items()}
    wanted = {name.removesuffix(":0"): name for name in inputs}
    for name in named:
        if name not in wanted:
            there = close_names(name, wanted) or f"; the inputs are: {', '.join(map(printable, wanted)) or 'none'}"
            raise UsageError(f"{where}: the model has no input '{printable(name)}'{there}")
    missing = [name for name in wanted if name not in named]
    if missing:
        raise UsageError(f"{where}: there is no array for input '{printable(missing[0])}'")
    return {original: named[name] for name, original in wanted.items()}


# From a file --------------------------------------------------------------------------------------------------


def _from_file(path: str, inputs: Mapping[str, Any]) -> Stream:
    """An `.npz`, read sample by sample."""
    if not os.path.exists(path):
        raise MalformedError("there is no such file", source=path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            chosen = match_names(members, inputs, printable(path))
            shapes = {name: _open(archive, member, path).shape for name, member in chosen.items()}
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise MalformedError(f"this cannot be read as an .npz of plain arrays: {printable(str(error))}",
                             source=path) from None  # fmt: skip
    for name, shape in shapes.items():
        if not shape:
            raise UsageError(
                f"{printable(path)}: array '{printable(name)}' is one number; its first axis counts samples"
            )
        check_sample_shape(shape[1:], inputs[name], name, printable(path))
    if len({shape[0] for shape in shapes.values()}) > 1:
        listed = ", ".join(f"'{printable(name)}' {shape[0]}" for name, shape in shapes.items())
        raise UsageError(f"{printable(path)}: the inputs have different numbers of samples: {listed}")
    count = next(iter(shapes.values()))[0] if shapes else 0
    if not count:
        raise UsageError(f"{printable(path)}: there are no samples in it")
    return Stream(_Archive(path, chosen, count, inputs), count)


class _Archive:
    """The samples of an `.npz`; it can be gone through again."""

    def __init__(self, path: str, members: Mapping[str, str], count: int, inputs: Mapping[str, Any]):
        self._path, self._members, self._count, self._inputs = path, members, count, inputs

    def __iter__(self) -> Iterator[Sample]:
        where = printable(self._path)
        try:
            with zipfile.ZipFile(self._path) as archive:
                arrays = {name: _open(archive, member, self._path) for name, member in self._members.items()}
                for _ in range(self._count):
                    found = {name: array.next_sample() for name, array in arrays.items()}
                    yield {name: fit_sample(array, self._inputs[name], name, where) for name, array in found.items()}
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise MalformedError(f"the .npz is damaged: {printable(str(error))}", source=self._path) from None


class _Array(NamedTuple):
    shape: tuple[int, ...]
    next_sample: Callable[[], Any]


def _open(archive: zipfile.ZipFile, member: str, path: str) -> _Array:
    """An array of an archive, to be read along its first axis. Raises `ValueError`, `MalformedError`."""
    import numpy as np
    from numpy.lib import format as npy

    stream: IO[bytes] = archive.open(member)
    version = npy.read_magic(stream)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read_header is None:
        raise ValueError(f"array '{member}' is of version {version}")
    shape, is_fortran, dtype = read_header(stream, max_header_size=_HEADER_LIMIT)
    if dtype.hasobject:
        raise MalformedError("it holds Python objects, not an .npz of plain arrays", source=path)
    if is_fortran and len(shape) > 1:  # the first axis runs fastest: all of it has to be read
        whole = np.frombuffer(stream.read(), dtype).reshape(shape, order="F")
        return _Array(shape, iter(whole).__next__)
    size = math.prod(shape[1:]) * dtype.itemsize

    def next_sample() -> Any:
        data = stream.read(size)
        if len(data) < size:
            raise ValueError(f"array '{member}' ends early")
        return np.frombuffer(data, dtype).reshape(shape[1:])

    return _Array(shape, next_sample)
