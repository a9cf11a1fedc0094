"""What passes did: counts per rule, refusals with reasons, deltas, and the journal of every rewrite."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

SCHEMA = "graphopt/report/v1"
EXAMPLES = 3  # nodes named for each reason of refusal


class Rewrite(NamedTuple):
    """One rewrite: the rule, nodes taken out and put in as `name=operator`, and the source nodes they stand for."""

    pass_name: str
    rule: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    origins: tuple[str, ...]


class RewriteLog:
    """Counts of one pass: rewrites per rule, refusals per rule and reason with a few nodes as examples."""

    def __init__(self, journal: list[Rewrite] | None = None) -> None:
        self.rules: dict[str, int] = {}
        self.refusals: dict[tuple[str, str], list[str]] = {}
        self.refusal_counts: dict[tuple[str, str], int] = {}
        self.notes: list[str] = []
        self.total = 0
        self.journal = journal

    def count(self, rule: str, count: int = 1) -> None:
        """`rule` rewrote `count` times."""
        self.rules[rule] = self.rules.get(rule, 0) + count
        self.total += count

    def refuse(self, rule: str, node: str, reason: str) -> None:
        """`rule` matched at `node` but left it, because of `reason`."""
        key = (rule, reason)
        self.refusal_counts[key] = self.refusal_counts.get(key, 0) + 1
        examples = self.refusals.setdefault(key, [])
        if len(examples) < EXAMPLES and node not in examples:
            examples.append(node)

    def note(self, text: str) -> None:
        """Something the user should know that is neither a rewrite nor a refusal."""
        self.notes.append(text)


@dataclass
class PassReport:
    """One pass of a run: seconds, rewrites per rule, refusals, and sizes before and after."""

    name: str
    spec: str
    seconds: float = 0.0
    rules: dict[str, int] = field(default_factory=dict)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    nodes_before: int = 0
    nodes_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def rewrites(self) -> int:
        """Rewrites of all rules together."""
        return sum(self.rules.values())

    def hand_over(self, again: PassReport) -> None:
        """The same pass ran again. What it refuses now is all that it refuses; a run without rewrites adds its time."""
        if again.rewrites:
            self.refusals, again.notes = [], [note for note in again.notes if note not in self.notes]
        else:
            self.seconds += again.seconds
            self.refusals, self.notes = again.refusals, list(dict.fromkeys((*self.notes, *again.notes)))


@dataclass
class RunReport:
    """A whole run of a pass manager: a row for each pass, and another for each time it ran again and found more."""

    passes: list[PassReport] = field(default_factory=list)
    seconds: float = 0.0
    nodes_before: int = 0
    nodes_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    operators_before: dict[str, int] = field(default_factory=dict)
    operators_after: dict[str, int] = field(default_factory=dict)
    verified: str = "structure"
    notes: list[str] = field(default_factory=list)
    journal: list[Rewrite] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with its versioned schema name."""
        plain = asdict(self)
        plain.pop("journal")
        return {"schema": SCHEMA, **plain}

    @property
    def rewrites(self) -> int:
        """Rewrites of all passes together."""
        return sum(entry.rewrites for entry in self.passes)


def journal_lines(journal: Iterable[Rewrite]) -> Iterator[str]:
    """The journal as JSON lines."""
    for entry in journal:
        yield json.dumps(
            {
                "pass": entry.pass_name,
                "rule": entry.rule,
                "removed": entry.removed,
                "added": entry.added,
                "origins": entry.origins,
            },
            ensure_ascii=True,
        )
