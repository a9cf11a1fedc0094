"""What a pass is: a frozen dataclass whose fields are its options, registered under a kebab-case name."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from graphopt.ir.errors import Error
from graphopt.ir.graph import Graph
from graphopt.ir.infer_nodes import Oracle
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.passes.report import Rewrite, RewriteLog


class Exactness(enum.IntEnum):
    """How a rewritten value may differ from the original."""

    EXACT = 0  # bit for bit, NaN and Inf included
    REASSOCIATING = 1  # the same real-number function, rounded differently
    APPROXIMATE = 2  # differs by a stated bound


class PassError(Error):
    """A pass failed. The message names the pass, the passes before it and how to reproduce the failure."""

    exit_status = 70


@dataclass
class PassContext:
    """What a running pass may consult, and where it reports.

    `exactness` is the highest class the user allows and `fast_math` gives up NaN and Inf semantics. `limit` stops
    all rewriting after that many rewrites (for bisection). `max_constant_bytes` bounds any one new constant. `oracle`
    gives the types of nodes whose operators the table does not cover.
    """

    exactness: Exactness = Exactness.REASSOCIATING
    fast_math: bool = False
    limit: int | None = None
    max_constant_bytes: int = 1 << 30
    log: RewriteLog = field(default_factory=RewriteLog)
    pass_name: str = ""
    oracle: Oracle | None = None

    def allows(self, rule: str, exactness: Exactness = Exactness.EXACT) -> bool:
        """May `rule` rewrite once more? Every rewrite asks first."""
        if exactness > self.exactness:
            self.log.refuse(rule, "", f"it is {exactness.name.lower()}, beyond what was allowed")
            return False
        return self.limit is None or self.log.total < self.limit

    def rewrote(self, rule: str, removed: tuple[Node, ...] = (), added: tuple[Node, ...] = (), count: int = 1) -> None:
        """Count a rewrite that was made; with a journal, write down what it did."""
        self.log.count(rule, count)
        if self.log.journal is not None:
            self.log.journal.append(
                Rewrite(
                    self.pass_name,
                    rule,
                    tuple(f"{node.name}={node.op}" for node in removed),
                    tuple(f"{node.name}={node.op}" for node in added),
                    tuple(dict.fromkeys(name for node in (*removed, *added) for name in node.source_names)),
                )
            )

    def refused(self, rule: str, node: Node, reason: str) -> None:
        """Record why `rule` left `node` alone."""
        self.log.refuse(rule, node.name, reason)


@dataclass(frozen=True)
class Pass:
    """Base of all passes. A subclass is a frozen dataclass with a docstring of one sentence, *Given*, *Result* and
    when it refuses; its fields, all with defaults, are its options.

    `exactness` is the class of its least exact rewrite; `requires` and `ensures` name stage specifications;
    `after` names passes that should have run before where both are in a pipeline; `gives_work` is False for a pass
    after which no other finds more to do, as one that only reorders, `edits` for one that changes nothing but types.
    """

    name: ClassVar[str] = ""
    exactness: ClassVar[Exactness] = Exactness.EXACT
    requires: ClassVar[tuple[str, ...]] = ()
    ensures: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    gives_work: ClassVar[bool] = True
    edits: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in cls.__dict__:
            cls.name = kebab_case(cls.__name__)

    def run(self, model: Model, context: PassContext) -> None:
        """Rewrite `model` in place. The default runs `run_graph` on the main graph and every function body."""
        for graph in model.graphs:
            self.run_graph(graph, context)

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Rewrite one graph in place."""
        raise TypeError(f"{type(self).__name__} defines neither run nor run_graph")

    def make_rules(self) -> Sequence[Any]:
        """The rewrite rules that the pass applies, if it is made of rules; for those who ask why one did or did not."""
        return ()

    @classmethod
    def options(cls) -> Iterator[dataclasses.Field[Any]]:
        """The options, in order."""
        yield from dataclasses.fields(cls)

    def __str__(self) -> str:
        from graphopt.passes.spec import format_pass

        return format_pass(self)


def kebab_case(name: str) -> str:
    """`FoldBatchNorms` -> `fold-batch-norms`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
