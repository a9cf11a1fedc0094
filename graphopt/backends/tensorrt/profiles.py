"""Profiles: the smallest, the best and the largest shape of each dynamic input, which an engine is built for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model
from graphopt.ir.types import Shape
from graphopt.ir.value import Value
from graphopt.passes.spec import suggestion

Dims = tuple[int, ...]
LARGEST = (1 << 31) - 1
_REST = ("...", "…")


class Profile(NamedTuple):
    """Shapes of one input: the smallest, the one to tune for, the largest."""

    least: Dims
    best: Dims
    most: Dims

    @property
    def text(self) -> str:
        """As `--profile` takes it."""
        return ",".join("x".join(map(str, dims)) for dims in self)


def make_profiles(given: Mapping[str, Profile] | Iterable[str] | str) -> dict[str, Profile]:
    """Profiles by input. Raises `UsageError` for what is none."""
    if isinstance(given, Mapping):
        return {name: _checked(name, [tuple(dims) for dims in profile]) for name, profile in given.items()}
    texts = [given] if isinstance(given, str) else list(given)
    return dict(parse_profile(text) for text in texts if text)


def parse_profile(text: str) -> tuple[str, Profile]:
    """Input and profile of `x=1x3x224x224,8x…,32x…`; an ellipsis stands for the rest of the first shape.

    One shape stands for all three. Raises `UsageError` for anything else.
    """
    name, equals, shapes = text.rpartition("=")
    if not equals or not name:
        raise UsageError(f"the profile '{printable(text)}' does not read INPUT=SHAPE,SHAPE,SHAPE")
    found: list[Dims] = []
    for part in shapes.split(","):
        found.append(_dims(text, part, found[0] if found else ()))
    return name, _checked(name, found * 3 if len(found) == 1 else found)


def _dims(text: str, part: str, first: Dims) -> Dims:
    pieces = part.replace("…", "...").strip().split("x")
    rest: Dims = ()
    if pieces[-1] in _REST:
        pieces.pop()
        rest = first[len(pieces) :]
    if not all(piece.isdecimal() for piece in pieces) or not (pieces or rest):
        raise UsageError(f"'{printable(part)}' in the profile '{printable(text)}' is no shape, such as 1x3x224x224")
    return (*map(int, pieces), *rest)


def _checked(name: str, shapes: list[Dims]) -> Profile:
    if len(shapes) != 3:
        raise UsageError(f"the profile of '{printable(name)}' has {len(shapes)} shapes, not one or three")
    profile = Profile(*shapes)
    if len({len(dims) for dims in profile}) != 1:
        raise UsageError(f"the shapes of the profile of '{printable(name)}' differ in rank")
    for least, best, most in zip(*profile, strict=True):
        if not 0 <= least <= best <= most <= LARGEST:
            raise UsageError(f"the profile of '{printable(name)}' does not grow: {profile.text}")
    return profile


def check_profiles(model: Model, profiles: Mapping[str, Profile]) -> None:
    """Raise `UsageError` for a profile of no input, or one whose shapes are not the input's."""
    inputs = {value.name: value for value in model.graph.inputs}
    for name, profile in profiles.items():
        if name not in inputs:
            close = suggestion(name, inputs)
            raise UsageError(f"there is no input '{printable(name)}'{close}; there are {', '.join(inputs)}")
        shape = inputs[name].shape
        if not all(_fits(shape, dims) for dims in profile):
            raise UsageError(f"the profile of '{printable(name)}', {profile.text}, does not fit its shape {shape}")


def _fits(shape: Shape, dims: Dims) -> bool:
    if shape.dims is None:
        return True
    if len(shape.dims) != len(dims):
        return False
    return all(not isinstance(own, int) or own == given for own, given in zip(shape.dims, dims, strict=True))


def dynamic_inputs(model: Model) -> list[Value]:
    """Inputs that need a profile, in order."""
    return [value for value in model.graph.inputs if value.shape.static is None]
