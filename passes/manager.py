"""Running pipelines: verification between passes, reports, numeric checks that fail closed, and bisection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from graphopt.ir.errors import CheckError, Error, GraphError, UsageError, VerificationError, printable
from graphopt.ir.infer_nodes import Oracle
from graphopt.ir.known import CONSTANTS
from graphopt.ir.model import Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.verifier import problems, verify
from graphopt.passes.base import Exactness, Pass, PassContext, PassError
from graphopt.passes.presets import PRESETS
from graphopt.passes.removal import drop_dangling_colocations
from graphopt.passes.report import PassReport, Rewrite, RewriteLog, RunReport
from graphopt.passes.spec import format_pass, format_pipeline, parse_pipeline, suggestion

Comparison = Callable[[Model, Model, Exactness], str | None]
"""Compares the model before and after; returns None, or what differs and where first."""
PRESET_ROUNDS = 8
Progress = Callable[[int, int, str], None]
"""Gets how many passes are done, how many there are, and the name of the one that starts."""


@dataclass
class PassManager:
    """Runs passes in order over a model, in place.

    `passes` is a pipeline string, the name of a preset, or a sequence of both and of passes. `verify_each` checks
    every invariant of the IR after each pass. `compare`, if given, compares the model's outputs before and after
    each pass that changed something; a difference raises `CheckError` naming the pass and, by bisection, the one
    rewrite at fault. `journal` keeps a record of every rewrite in the report.

    `rounds` bounds how often the pipeline is gone through: after the first time, a pass runs again only if another has
    changed something since. By default a preset has `PRESET_ROUNDS`, and what is spelled out runs once as written.
    `oracle` gives the types of nodes whose operators the table does not cover.
    """

    passes: str | Pass | Sequence[str | Pass] = "inference"
    exactness: Exactness = Exactness.REASSOCIATING
    fast_math: bool = False
    verify_each: bool = True
    compare: Comparison | None = None
    journal: bool = False
    progress: Progress | None = None
    max_constant_bytes: int = 1 << 30
    rounds: int | None = None
    oracle: Oracle | None = None

    def __post_init__(self) -> None:
        self.pipeline: tuple[Pass, ...] = resolve_pipeline(self.passes)
        if self.rounds is None:
            self.rounds = PRESET_ROUNDS if isinstance(self.passes, str) and self.passes in PRESETS else 1

    def run(self, model: Model) -> RunReport:
        """Run all passes on `model`.

        Raises `PassError` or `VerificationError` when a pass fails, `CheckError` when an output changed; the model
        is then in an undefined state and must not be used.
        """
        report = RunReport(journal=[] if self.journal else None)
        report.verified = "numeric" if self.compare else "structure" if self.verify_each else "off"
        started = time.perf_counter()
        contracts = self.verify_each and self._check_source(model, report)
        report.nodes_before, report.bytes_before = model.node_count, constant_bytes(model)
        report.operators_before = operator_counts(model)
        self._run_rounds(model, report, contracts)
        report.nodes_after, report.bytes_after = model.node_count, constant_bytes(model)
        report.operators_after = operator_counts(model)
        report.seconds = time.perf_counter() - started
        return report

    def _run_rounds(self, model: Model, report: RunReport, contracts: bool) -> None:
        """Go through the pipeline; then, round after round, through the passes that others gave new work."""
        size = report.nodes_before, report.bytes_before
        latest: dict[int, PassReport] = {}
        pending = dict.fromkeys(range(len(self.pipeline)))
        for _ in range(self.rounds or 1):
            for place in sorted(pending):
                item = self.pipeline[place]
                if self.progress is not None:
                    self.progress(place, len(self.pipeline), item.name)
                del pending[place]
                entry = self._run_one(model, place, report.journal, contracts)
                entry.nodes_before, entry.bytes_before = size
                if entry.rewrites:
                    size = model.node_count, constant_bytes(model)
                entry.nodes_after, entry.bytes_after = size
                earlier = latest.get(place)
                if earlier is not None:
                    earlier.hand_over(entry)
                if earlier is None or entry.rewrites:
                    report.passes.append(entry)
                    latest[place] = entry
                if entry.rewrites and item.gives_work:
                    pending.update(dict.fromkeys(other for other in range(len(self.pipeline)) if other != place))
            if not pending:
                return
        if self.rounds != 1:
            report.notes.append(f"{len(pending)} passes might find more to do after {self.rounds} rounds")

    @staticmethod
    def _check_source(model: Model, report: RunReport) -> bool:
        """Whether the nodes of the model as it came keep their contracts with one another; if not, note it.

        Raises `VerificationError` where the graph itself is broken.
        """
        found = problems(model)
        if found:
            verify(model, contracts=False)
        report.notes += [f"the model contradicts itself: {problem}" for problem in found]
        return not found

    def _run_one(self, model: Model, place: int, journal: list[Rewrite] | None, contracts: bool) -> PassReport:
        item = self.pipeline[place]
        before = model.clone() if self.compare is not None else None
        context = self._context(item, journal)
        started = time.perf_counter()
        with self._naming(place):
            item.run(model, context)
            if context.log.total:
                for graph in model.graphs:
                    drop_dangling_colocations(graph)
            seconds = time.perf_counter() - started
            if self.verify_each and context.log.total and item.edits:
                verify(model, contracts=contracts)
        if before is not None and self.compare is not None and context.log.total:
            difference = self.compare(before, model, item.exactness)
            if difference is not None:
                raise CheckError(self._blame(before, place, difference))
        log = context.log
        refusals = [
            {"rule": rule, "reason": reason, "count": log.refusal_counts[rule, reason], "nodes": nodes}
            for (rule, reason), nodes in log.refusals.items()
        ]
        return PassReport(item.name, format_pass(item), seconds, dict(log.rules), refusals, list(log.notes))

    def _context(self, item: Pass, journal: list[Rewrite] | None = None, limit: int | None = None) -> PassContext:
        return PassContext(
            self.exactness, self.fast_math, limit, self.max_constant_bytes, RewriteLog(journal), item.name, self.oracle
        )

    @contextmanager
    def _naming(self, place: int) -> Iterator[None]:
        """Any failure of a pass names the pass, what ran before it, and the command that reproduces it."""
        try:
            yield
        except (PassError, VerificationError, GraphError, CheckError) as error:
            raise type(error)(self._reproduction(place, str(error))) from error
        except Error:
            raise
        except Exception as error:
            raise PassError(self._reproduction(place, f"{type(error).__name__}: {error}")) from error

    def _reproduction(self, place: int, reason: str) -> str:
        item = self.pipeline[place]
        earlier = ", ".join(previous.name for previous in self.pipeline[:place]) or "none"
        spec = format_pipeline(self.pipeline[: place + 1])
        return (
            f"pass '{item.name}' failed: {reason} (passes before it: {earlier}; reproduce with "
            f"`graphopt optimize MODEL -o OUT --passes '{spec}'`)"
        )

    def _blame(self, before: Model, place: int, difference: str) -> str:
        """Find by bisection the first rewrite of the pass after which the outputs differ."""
        item, compare = self.pipeline[place], self.compare
        assert compare is not None
        low, high = 0, self._rewrites(before, item, None)[0]
        while high - low > 1:
            middle = (low + high) // 2
            _, trial = self._rewrites(before, item, middle)
            low, high = (low, middle) if compare(before, trial, item.exactness) is not None else (middle, high)
        journal: list[Rewrite] = []
        item.run(before.clone(), self._context(item, journal, high))
        guilty = journal[-1] if journal else None
        detail = f"rewrite {high}"
        if guilty is not None:
            removed = ", ".join(printable(name) for name in guilty.removed[:4])
            added = ", ".join(printable(name) for name in guilty.added[:4]) or "nothing new"
            detail += f", rule '{guilty.rule}': {removed or 'nothing'} became {added}"
        return self._reproduction(place, f"the outputs changed: {difference}; first wrong at {detail}")

    def _rewrites(self, before: Model, item: Pass, limit: int | None) -> tuple[int, Model]:
        trial = before.clone()
        context = self._context(item, limit=limit)
        item.run(trial, context)
        return context.log.total, trial


def run_pass(model: Model, item: Pass | str, **options: Any) -> PassReport:
    """Run one pass on `model` in place; options are those of `PassManager`."""
    return PassManager(item if isinstance(item, str) else (item,), **options).run(model).passes[0]


def resolve_pipeline(passes: str | Pass | Iterable[str | Pass]) -> tuple[Pass, ...]:
    """Passes of a preset, a pipeline string, or a mixed sequence. Raises `UsageError` for what is neither."""
    if isinstance(passes, Pass):
        return (passes,)
    if isinstance(passes, str):
        return preset(passes) if passes in PRESETS else parse_pipeline(passes)
    return tuple(item for entry in passes for item in resolve_pipeline(entry))


def preset(name: str) -> tuple[Pass, ...]:
    """The passes of the preset `name`: a copy to edit."""
    if name not in PRESETS:
        raise UsageError(f"there is no pipeline '{printable(name)}'{suggestion(name, PRESETS)}")
    return parse_pipeline(PRESETS[name])


def constant_bytes(model: Model) -> int:
    """Bytes stored in constants of all graphs, a shared tensor once."""
    seen: dict[int, int] = {}
    for graph in model.graphs:
        for node in graph:
            if node.op in CONSTANTS:
                held = node.attrs.get("value")
                if isinstance(held, Tensor):
                    seen[id(held)] = held.stored_bytes
    return sum(seen.values())


def operator_counts(model: Model) -> dict[str, int]:
    """How many nodes there are of each operator, sorted by name."""
    counts: dict[str, int] = {}
    for graph in model.graphs:
        for node in graph:
            counts[node.op] = counts.get(node.op, 0) + 1
    return dict(sorted(counts.items()))
