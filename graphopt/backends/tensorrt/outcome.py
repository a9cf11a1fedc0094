"""What choosing the precision came to: what the user should know, and why single nodes stay as wide as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """`notes` for the user; `reasons` why nodes stay in float32, by name; `overflow`, the tensors that leave float16's
    range on the samples, as plain data; `scales`, the ranges that activations are quantized in, as plain data."""

    notes: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    overflow: list[dict[str, Any]] = field(default_factory=list)
    scales: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Take in what another step came to."""
        self.notes += other.notes
        self.reasons |= {name: reason for name, reason in other.reasons.items() if name not in self.reasons}
        self.overflow += other.overflow
        self.scales += other.scales
