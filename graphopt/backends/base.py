"""What a backend is: it says what of a model its target cannot express, and lowers models to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import import_module
from typing import Any, Protocol, TypeVar

from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.model import Model
from graphopt.passes.report import RunReport
from graphopt.passes.spec import suggestion

ENTRY_POINTS = "graphopt.backends"
Options = TypeVar("Options", bound=Any)
SHOWN = 5  # findings that an error lists

# name -> module and class
BUILTIN: Mapping[str, tuple[str, str]] = {
    "onnx": ("graphopt.backends.onnx.backend", "OnnxBackend"),
    "tensorrt": ("graphopt.backends.tensorrt.backend", "TensorRTBackend"),
    "tflite": ("graphopt.backends.tflite.backend", "TFLiteBackend"),
    "xla": ("graphopt.backends.xla.backend", "XlaBackend"),
}


@dataclass(frozen=True)
class Finding:
    """A node that the target cannot express: where it came from, why, and what helps."""

    node: str
    operator: str
    origins: tuple[str, ...]
    reason: str
    remedy: str
    graph: str = "main"

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        origin = f", from '{printable(self.origins[0])}'" if self.origins and self.origins[0] != self.node else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"'{printable(self.node)}' ({printable(self.operator)}{origin}): {self.reason}{remedy}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class UnloweredError(UnsupportedError):
    """The target cannot express the model; `findings` say why, node by node."""

    def __init__(self, target: str, findings: Sequence[Finding]):
        self.findings = tuple(findings)
        shown = "; ".join(finding.sentence for finding in self.findings[:SHOWN])
        more = f"; and {len(self.findings) - SHOWN} more" if len(self.findings) > SHOWN else ""
        count = f"{len(self.findings)} node{'s' if len(self.findings) != 1 else ''}"
        super().__init__(f"{target} cannot express {count} of the model: {shown}{more}")


@dataclass
class Lowered:
    """A model in the target's dialect, what the passes did on the way, and notes for the user."""

    model: Model
    report: RunReport
    notes: list[str] = field(default_factory=list)


class Backend(Protocol):
    """One target. Both methods leave the model they get as it is."""

    name: str

    def check(self, model: Model, **options: Any) -> list[Finding]:
        """Every node that would not lower."""

    def lower(self, model: Model, **options: Any) -> Lowered:
        """The model in the target's dialect. Raises `UnloweredError` with every finding."""


def make_options(kind: type[Options], target: str, given: Mapping[str, Any]) -> Options:
    """Options of a target from keywords. Raises `UsageError` for one that it does not have."""
    known = [item.name for item in fields(kind)]
    for name in given:
        if name not in known:
            close, there = suggestion(name, known), ", ".join(known)
            raise UsageError(f"target '{target}' has no option '{printable(name)}'{close}; it has {there}")
    return kind(**given)


@cache
def _plugins() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def find_backend(name: str) -> Backend:
    """The backend called `name`, ours or a plugin's. Raises `UsageError` if there is none."""
    if name in BUILTIN:
        module, attribute = BUILTIN[name]
        backend: Backend = getattr(import_module(module), attribute)()
        return backend
    plugins = _plugins()
    if name in plugins:
        loaded: Backend = plugins[name].load()()
        return loaded
    names = (*BUILTIN, *sorted(plugins))
    raise UsageError(f"there is no target '{printable(name)}'{suggestion(name, names)}; there are {', '.join(names)}")
