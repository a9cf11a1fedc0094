"""What a caller may ask of the TensorRT backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphopt.backends.tensorrt.profiles import Profile, make_profiles
from graphopt.ir.errors import UsageError, printable
from graphopt.passes.quantize.methods import RangeMethod, range_method
from graphopt.passes.quantize.recipe import BLOCK_SIZES, Recipe

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "int4")
BODIES = ("fp16", "bf16")
QUANTIZED = ("int8", "fp8", "int4")
ALIASES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
EFFORTS = ("fast", "default", "high")
# Ways to choose ranges by effort: where several are tried, the first one decides on statistics of a file.
METHODS: Mapping[tuple[str, str], tuple[RangeMethod, ...]] = {
    ("int8", "fast"): (RangeMethod("mse", clipping=4.0),),
    ("int8", "default"): (RangeMethod("mse", clipping=4.0), RangeMethod("minmax"), RangeMethod("mse")),
    ("int8", "high"): (
        RangeMethod("mse", clipping=4.0), RangeMethod("minmax"), RangeMethod("mse"), RangeMethod("mse", clipping=16.0),
        RangeMethod("percentile", percentile=99.99), RangeMethod("entropy"),
    ),
}  # fmt: skip
LOWEST_OPSET, HIGHEST_OPSET = 21, 24
BFLOAT16_OPSET = 22  # from which convolutions and pools take bfloat16


@dataclass(frozen=True)
class TensorRTOptions:
    """`signatures` names the one to lower; `opset` is 21 to 24. `profiles` gives each dynamic input its smallest, best
    and largest shape: `x=1x3x8x8,4x3x8x8,8x3x8x8`, or a mapping to `Profile`s.

    `precision` is the type that is computed in: fp32, fp16, bf16; int8 or fp8 (E4M3) between Q and DQ, or int4 weights,
    with float32 around them. `recipe` (a `Recipe`, or the path of one) says which layers are quantized how, its mode
    int8 standing for fp8 where that is the precision; without one all that can be are. `body` is what computes around
    them: fp32, fp16 or bf16. `data` are samples as
    `calibrate` takes them, `statistics` what it made of them, or a file of it: int8 and fp8 need one of them, in fp16
    they show which tensors leave its range. `method` is how ranges are chosen unless the recipe says otherwise; if it
    is not given, `effort` (fast, default, high) says how many ways are tried on the samples, and with `no_check` what
    is wrong with these is noted instead of raised. `block_size` is how many int4 weights share a scale. `pinned` names
    nodes, by the source's names, to keep in float32. With `efficient_nms`, the heads of detectors become TensorRT's
    plugin of that name.
    """

    signatures: tuple[str, ...] = ()
    opset: int = LOWEST_OPSET
    precision: str = "fp32"
    body: str = ""
    profiles: Mapping[str, Profile] | tuple[str, ...] | str = ()
    data: Any = None
    statistics: Any = None
    recipe: Any = None
    method: str | RangeMethod = ""
    effort: str = "default"
    no_check: bool = False
    block_size: int = 0
    pinned: tuple[str, ...] = ()
    efficient_nms: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", ALIASES.get(self.precision, self.precision))
        if self.precision not in PRECISIONS:
            raise UsageError(f"there is no precision '{printable(self.precision)}'; there are {', '.join(PRECISIONS)}")
        object.__setattr__(self, "body", ALIASES.get(self.body, self.body) or "fp32")
        if self.precision in BODIES:
            object.__setattr__(self, "body", self.precision)
        if self.body != "fp32" and self.body not in BODIES:
            raise UsageError(f"there is no body '{printable(self.body)}'; there are fp32, {', '.join(BODIES)}")
        if not LOWEST_OPSET <= self.opset <= HIGHEST_OPSET:
            raise UsageError(f"opset {self.opset} is not offered: {LOWEST_OPSET} to {HIGHEST_OPSET} are")
        object.__setattr__(self, "profiles", make_profiles(self.profiles))
        if self.body == "bf16" and self.opset < BFLOAT16_OPSET:
            object.__setattr__(self, "opset", BFLOAT16_OPSET)
        self._check_quantization()

    def _check_quantization(self) -> None:
        if self.method:
            object.__setattr__(self, "method", range_method(self.method))
        if self.effort not in EFFORTS:
            raise UsageError(f"there is no effort '{printable(self.effort)}'; there are {', '.join(EFFORTS)}")
        if self.block_size and self.block_size not in BLOCK_SIZES:
            raise UsageError(f"blocks have {', '.join(map(str, BLOCK_SIZES))} weights, not {self.block_size}")
        if self.recipe is not None:
            from graphopt.backends.tensorrt.recipes import read_recipe

            object.__setattr__(self, "recipe", read_recipe(self.recipe))
            if self.precision not in QUANTIZED:
                object.__setattr__(self, "precision", "int8" if self.recipe.needs_statistics else "int4")
        if self.data is not None and self.statistics is not None:
            raise UsageError("give samples (--data, data=) or statistics of them (--statistics, statistics=), not both")
        if self.chosen_recipe is not None and self.chosen_recipe.needs_statistics and not self.has_samples:
            raise UsageError(
                f"{self.precision} needs samples to calibrate with (--data, data=), or statistics of them "
                "(--statistics, statistics=)"
            )

    @property
    def has_samples(self) -> bool:
        """Something is known of what tensors take on."""
        return self.data is not None or self.statistics is not None

    @property
    def chosen_recipe(self) -> Recipe | None:
        """What says how layers are quantized; None where none is."""
        if self.precision not in QUANTIZED:
            return None
        from graphopt.backends.tensorrt.recipes import default_recipe

        return self.recipe if self.recipe is not None else default_recipe(self.precision)

    @property
    def methods(self) -> tuple[RangeMethod, ...]:
        """How ranges may be chosen where the recipe does not say."""
        if self.method:
            return (range_method(self.method),)
        return METHODS.get((self.precision, self.effort), (RangeMethod("minmax"),))
