"""What a caller may ask of the XLA backend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from graphopt.ir.errors import UsageError, printable

CONVOLUTIONS = ("auto", "plain")
DEPTHWISE = ("auto", "grouped", "slices")
WEIGHTS = ("arguments", "constants")
WEIGHTS_FORMATS = ("npz", "safetensors")
NARROW = ("bfloat16", "float16")  # floats
INTEGER = ("int8", "int8-weights")
PRECISIONS = ("float32", *NARROW, *INTEGER)
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
CHOICES = (
    ("weights", WEIGHTS), ("weights_format", WEIGHTS_FORMATS), ("convolutions", CONVOLUTIONS),
    ("depthwise", DEPTHWISE), ("precision", PRECISIONS),
)  # fmt: skip
OLDEST = "0.9.0"  # of StableHLO: every release since reads it
_VERSION = re.compile(r"\d+\.\d+\.\d+\Z")


@dataclass(frozen=True)
class XlaOptions:
    """`signatures` names those to lower, all if none is named.

    `weights` says whether they are arguments of the compiled function, stored beside it, or constants inside;
    `weights_format` is that of the file they are stored in. `depthwise` says how depthwise convolutions are
    expressed: as grouped convolutions, as shifted slices times weights, or what suits `platform`, which names one or,
    separated by commas, several that the program is to run on. `convolutions` says whether others become products of
    matrices where that suits it, some with kernels that are transformed beforehand and have 1.8 times their bytes, or
    stay `plain`. `precision` is the element type of the operands of products and convolutions, which are summed in
    float32, as is all else computed; `int8` needs samples (`data`, as `calibrate` takes them) or `statistics`
    (`Statistics`, or a file of them), `int8-weights` only stores weights so, and a `recipe` (a `Recipe`, or a file of
    one) says for which layers. `minimum_version` is the StableHLO version that must be able to read the artifact.
    `batch` is a number for unknown leading dimensions of the inputs, `unknown` one for every other unknown dimension;
    without them they stay symbols. `fallback` lets TensorFlow lower a graph with an operator that has no rule.
    """

    signatures: tuple[str, ...] = ()
    weights: str = "arguments"
    weights_format: str = "npz"
    convolutions: str = "auto"
    depthwise: str = "auto"
    platform: str = "cpu"
    precision: str = "float32"
    minimum_version: str = OLDEST
    batch: int | None = None
    unknown: int | None = None
    fallback: bool = True
    recipe: Any = None
    data: Any = None
    statistics: Any = None

    def __post_init__(self) -> None:
        for name, there in CHOICES:
            given = getattr(self, name)
            if given not in there:
                raise UsageError(f"{name} is '{printable(str(given))}', not one of {', '.join(there)}")
        for name in self.platforms:
            if name not in PLATFORMS or self.platforms.count(name) > 1:
                shown = printable(self.platform)
                raise UsageError(f"platform is '{shown}', not some of {', '.join(PLATFORMS)}, each once")
        if not _VERSION.match(self.minimum_version):
            shown = printable(self.minimum_version)
            raise UsageError(f"minimum_version is '{shown}', not a StableHLO version such as {OLDEST}")
        for name in ("batch", "unknown"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}, not a positive number")
        self._check_integers()

    def _check_integers(self) -> None:
        """Raises `UsageError` where samples or a recipe come without a precision that uses them."""
        for name in ("recipe", "data", "statistics"):
            if getattr(self, name) is not None and self.precision not in INTEGER:
                raise UsageError(f"{name} goes with precision int8 or int8-weights, not with {self.precision}")
        if self.data is not None and self.statistics is not None:
            raise UsageError("give samples or statistics, not both")

    @property
    def platforms(self) -> tuple[str, ...]:
        """What the program is to run on."""
        return tuple(self.platform.split(","))

    @property
    def for_cpus_alone(self) -> bool:
        """Windows may take forms that suit CPUs, such as kernels transformed beforehand, which nothing else needs."""
        return self.convolutions == "auto" and self.platforms == ("cpu",)

    def slices_depthwise(self, platform: str) -> bool:
        """Depthwise convolutions become shifted slices times weights, which XLA's CPU code is much faster at."""
        return self.depthwise == "slices" or (self.depthwise == "auto" and platform == "cpu")
