"""What a caller may ask of the TensorRT backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphopt.backends.tensorrt.profiles import Profile, make_profiles
from graphopt.ir.errors import UsageError, printable

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
ALIASES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
LOWEST_OPSET, HIGHEST_OPSET = 21, 24
BFLOAT16_OPSET = 22  # from which convolutions and pools take bfloat16


@dataclass(frozen=True)
class TensorRTOptions:
    """`signatures` names the one to lower; `opset` is 21 to 24.

    `precision` is the type that is computed in: fp32, fp16, bf16, or int8 or fp8 (E4M3)
    with float32 around it. `profiles` gives each
    dynamic input its smallest, best and largest shape: `x=1x3x8x8,4x3x8x8,8x3x8x8`, or a mapping to `Profile`s. `data`
    are samples as `calibrate` takes them: int8 and fp8 need them, and in fp16 they show which tensors leave its range.
    `pinned` names nodes, by the source's names, to keep in float32.
    """

    signatures: tuple[str, ...] = ()
    opset: int = LOWEST_OPSET
    precision: str = "fp32"
    profiles: Mapping[str, Profile] | tuple[str, ...] | str = ()
    data: Any = None
    method: str = "minmax"
    pinned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", ALIASES.get(self.precision, self.precision))
        if self.precision not in PRECISIONS:
            raise UsageError(f"there is no precision '{printable(self.precision)}'; there are {', '.join(PRECISIONS)}")
        if not LOWEST_OPSET <= self.opset <= HIGHEST_OPSET:
            raise UsageError(f"opset {self.opset} is not offered: {LOWEST_OPSET} to {HIGHEST_OPSET} are")
        if self.precision in ("int8", "fp8") and self.data is None:
            raise UsageError(f"{self.precision} needs samples to calibrate with (--data, data=)")
        object.__setattr__(self, "profiles", make_profiles(self.profiles))
        if self.precision == "bf16" and self.opset < BFLOAT16_OPSET:
            object.__setattr__(self, "opset", BFLOAT16_OPSET)
