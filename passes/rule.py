"""Rules, and the editor they build replacements with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Union

import numpy as np

from graphopt.ir.infer import infer_node
from graphopt.ir.known import CONSTANT, hold, known_tensor
from graphopt.ir.ops import find
from graphopt.ir.ops.derive import derived_attributes
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import UNKNOWN_TYPE, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness, kebab_case
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import Pattern

Replacement = Union[Value, Sequence[Value | None], None]  # noqa: UP007 (evaluated at run time on Python 3.10 as well)


class Rule:
    """Pattern, check, rewrite. A subclass has a docstring of one sentence and states its exactness.

    `pattern(self, tf, x, …)` returns the pattern. `grow(match)` may take in what a pattern cannot say: chains of any
    length, trees. `check(match)` returns None or the reason for refusing.
    `rewrite(match, edit)` builds the replacement with `edit` and returns a value for each output of the root (one
    value if the root has one output), or None to leave everything as it is. `fast_math` marks a rule that may lose
    NaN and Inf: it runs only where the user gave them up. `keeps_interior` says that the rule is also worth applying
    where an intermediate is read by others and therefore stays.
    """

    name: ClassVar[str] = ""
    exactness: ClassVar[Exactness] = Exactness.EXACT
    fast_math: ClassVar[bool] = False
    keeps_interior: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in cls.__dict__:
            cls.name = kebab_case(cls.__name__)

    def pattern(self, *arguments: Any, **keywords: Any) -> Pattern:
        """The pattern, rooted at the node to be replaced."""
        raise TypeError(f"{type(self).__name__} has no pattern")

    def grow(self, match: Match) -> Match | str | None:
        """The match with more nodes and captures (`Match.grown`), the reason for refusing, or None: no match."""
        return match

    def check(self, match: Match) -> str | None:
        """None, or why the match is left alone."""
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The replacement for the outputs of the root."""
        raise TypeError(f"{type(self).__name__} has no rewrite")


class Editor:
    """Builds the replacement of one match: new nodes go before the root, with its device and all origins.

    A name that is taken when a node is made, but free once the match is gone, is the new node's in the end. What is
    held, and was computed from a variable that nobody reads any more, is that variable's value in the end.
    """

    def __init__(self, match: Match) -> None:
        self._root = match.root
        self._graph = match.graph
        self._captures = tuple(match.captures())
        self._origins = tuple(dict.fromkeys(name for node in match.nodes for name in node.source_names))
        self.created: list[Node] = []
        self._wanted: dict[Node, tuple[str, str]] = {}  # the name asked for, and the one it got meanwhile
        self._variables: dict[str, Value] = {}  # that the match reads
        if match.graph.model is not None and match.graph.model.variables:
            from graphopt.ir.known_variables import variables_read

            self._variables = variables_read((n, place) for n in match.nodes for place in range(len(n._inputs)))

    def node(
        self,
        op: str,
        inputs: Iterable[Value | None],
        attrs: Mapping[str, Any] | None = None,
        *,
        like: Node | None = None,
        name: str | None = None,
        types: Sequence[TensorType] | None = None,
    ) -> Node:
        """A new node. Attributes are those of `like`, then `attrs`, then what follows from the inputs.

        Output types are inferred unless given. A name is made unique; the root's own name is the default. The device
        is that of `like`, or of the root.
        """
        values = tuple(inputs)
        merged = {**(like.attrs if like is not None else {}), **(attrs or {})}
        operator = find(op)
        if operator is not None and operator.interface is not None:
            dtypes = [value.dtype for value in values if value is not None]
            merged = derived_attributes(operator.interface, dtypes, merged)
            if types is None:
                types = operator.interface.output_types(merged)
        node = self._graph.create_node(
            op,
            values,
            merged,
            name=name or self._root.name,
            types=types if types is not None else (UNKNOWN_TYPE,),
            before=self._root,
            device=(like if like is not None else self._root).device,
            origins=self._origins,
        )
        for value, inferred in zip(node.outputs, infer_node(node), strict=False):
            if inferred.dtype.code and (types is None or inferred.shape.dims is not None):
                value.type = inferred
        self._add(node, name)
        return node

    def value(self, op: str, *inputs: Value, name: str | None = None, like: Node | None = None, **attrs: Any) -> Value:
        """The first output of a new node; attributes as keywords."""
        return self.node(op, inputs, attrs, name=name, like=like).output

    def hold(self, data: Tensor | np.ndarray[Any, Any], name: str | None = None) -> Value:
        """A value that is always `data`. Its origins include the known values that the match captured."""
        sources = dict.fromkeys(self._origins)
        for captured in self._captures:
            if known_tensor(captured) is not None:
                sources.update(dict.fromkeys(captured.node.source_names))
        value = hold(self._graph, data, name=name or self._root.name, before=self._root, origins=tuple(sources))
        value.node.device = self._root.device
        self._add(value.node, name)
        return value

    def _add(self, node: Node, name: str | None) -> None:
        self.created.append(node)
        if name is not None and node.name != name:
            self._wanted[node] = name, node.name

    def keep_variables(self) -> None:
        """Let variables hold what was computed from them, where type and shape fit and nobody else reads them."""
        if self._variables:
            from graphopt.ir.known_variables import drop_dead_reads, keep_in_variable

            for node in self.created:
                if node.op == CONSTANT and node.graph is self._graph:
                    keep_in_variable(node, self._variables)
            drop_dead_reads(self._variables.values())

    def claim_names(self) -> None:
        """Rename nodes to the names they were made with, where those have become free."""
        for node, (name, meanwhile) in self._wanted.items():
            if node.graph is self._graph and node.name == meanwhile and self._graph.find(name) is None:
                self._graph.rename(node, name)

    def discard(self) -> None:
        """Take back everything created."""
        self._graph.remove_all(self.created)
        self.created = []
