"""From the end of a chain up to the weighted operators that can take it in, through whatever lets it pass."""

from __future__ import annotations
