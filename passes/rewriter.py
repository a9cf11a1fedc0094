"""The rewrite engine: rules, the editor they build replacements with, and the driver that applies them.

The engine, not the rule, guarantees that

- no intermediate that something else reads is removed, and no output, input, target or name of theirs is lost;
- no tensor is edited in place, so shared weights stay as they are for their other readers;
- control dependencies of removed nodes pass to what replaces them;
- replacements have the element type, and no other shape than, the value they replace;
- the number of rewrites is bounded, and rules that undo each other are reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Union
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.infer import infer_node
from graphopt.ir.known import hold
from graphopt.ir.model import Function
from graphopt.ir.ops import Trait, find, traits_of
from graphopt.ir.ops.derive import derived_attributes
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import UNKNOWN_TYPE, TensorType
from graphopt.ir.value import WIDE, Node, Value
from graphopt.passes.base import Exactness, Pass, PassContext, PassError, kebab_case
from graphopt.passes.matcher import Match, Trace, match_node, required_operators
from graphopt.passes.patterns import Pattern, build_pattern, root_operators

REWRITES_PER_NODE = 8  # rewrites beyond this many for each node of the graph mean that rules undo each other
REWRITES_AT_LEAST = 1000
COLOCATED = b"loc:@"  # prefix of a node's name in the attribute `_class`
_V1_CONTROL_FLOW: WeakKeyDictionary[Graph, tuple[int, bool]] = WeakKeyDictionary()

Replacement = Union[Value, Sequence[Value | None], None]  # noqa: UP007 (evaluated at run time on Python 3.10 as well)


class Rule:
    """Pattern, check, rewrite. A subclass has a docstring of one sentence and states its exactness.

    `pattern(self, tf, x, …)` returns the pattern. `grow(match)` may take in what a pattern cannot say: chains of any
    length, trees. `check(match)` returns None or the reason for refusing.
    `rewrite(match, edit)` builds the replacement with `edit` and returns a value for each output of the root (one
    value if the root has one output), or None to leave everything as it is. `keeps_interior` says that the rule is
    also worth applying where an intermediate is read by others and therefore stays.
    """

    name: ClassVar[str] = ""
    exactness: ClassVar[Exactness] = Exactness.EXACT
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

    A name that is taken when a node is made, but free once the match is gone, is the new node's in the end.
    """

    def __init__(self, match: Match) -> None:
        self._root = match.root
        self._graph = match.graph
        self._origins = tuple(dict.fromkeys(name for node in match.nodes for name in node.source_names))
        self.created: list[Node] = []
        self._wanted: dict[Node, tuple[str, str]] = {}  # the name asked for, and the one it got meanwhile

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
            if inferred.dtype.code:
                value.type = inferred
        self._add(node, name)
        return node

    def value(self, op: str, *inputs: Value, name: str | None = None, like: Node | None = None, **attrs: Any) -> Value:
        """The first output of a new node; attributes as keywords."""
        return self.node(op, inputs, attrs, name=name, like=like).output

    def hold(self, data: Tensor | np.ndarray[Any, Any], name: str | None = None) -> Value:
        """A value that is always `data`."""
        value = hold(self._graph, data, name=name or self._root.name, before=self._root, origins=self._origins)
        value.node.device = self._root.device
        self._add(value.node, name)
        return value

    def _add(self, node: Node, name: str | None) -> None:
        self.created.append(node)
        if name is not None and node.name != name:
            self._wanted[node] = name, node.name

    def claim_names(self) -> None:
        """Rename nodes to the names they were made with, where those have become free."""
        for node, (name, meanwhile) in self._wanted.items():
            if node.graph is self._graph and node.name == meanwhile and self._graph.find(name) is None:
                self._graph.rename(node, name)

    def discard(self) -> None:
        """Take back everything created."""
        self._graph.remove_all(self.created)
        self.created = []


def apply_rules(graph: Graph, rules: Sequence[Rule], context: PassContext) -> int:
    """Apply `rules` until none matches any more; returns the number of rewrites.

    Raises `PassError` naming the rules if they do not come to an end.
    """
    index = rule_index(rules)
    queue = deque(node for node in graph if node.op in index)
    queued = dict.fromkeys(queue)
    bound = REWRITES_AT_LEAST + REWRITES_PER_NODE * len(graph)
    counts: dict[str, int] = {}
    done = 0
    while queue:
        node = queue.popleft()
        del queued[node]
        if node.graph is not graph:
            continue
        rule, affected = _apply_first(node, index.get(node.op, ()), context)
        if rule is None:
            continue
        done += 1
        counts[rule.name] = counts.get(rule.name, 0) + 1
        if done > bound:
            busiest = ", ".join(sorted(counts, key=lambda name: -counts[name])[:3])
            raise PassError(f"rewriting does not end: {done} rewrites of {len(graph)} nodes; busiest rules: {busiest}")
        for other in affected:
            if other.op in index and other not in queued and other.graph is graph:
                queued[other] = None
                queue.append(other)
    return done


IndexedRule = tuple[Rule, Pattern, tuple[tuple[frozenset[str], ...], ...]]
RuleIndex = Mapping[str, Sequence[IndexedRule]]


def rule_index(rules: Sequence[Rule]) -> RuleIndex:
    """Root operator -> rules with their patterns, in the order of `rules`."""
    index: dict[str, list[IndexedRule]] = {}
    for rule in rules:
        pattern = build_pattern(rule.pattern)
        required = required_operators(pattern)
        for op in dict.fromkeys(root_operators(pattern)):
            index.setdefault(op, []).append((rule, pattern, required))
    return index


def _may_match(required: tuple[tuple[frozenset[str], ...], ...], producers: Sequence[str]) -> bool:
    """Some alternative finds each of its operators among the producers of the inputs."""
    for alternative in required:
        for operators in alternative:
            for producer in producers:
                if producer in operators:
                    break
            else:
                break
        else:
            return True
    return False


def _apply_first(node: Node, rules: Sequence[IndexedRule], context: PassContext) -> tuple[Rule | None, list[Node]]:
    producers = [value.node.op for value in node._inputs if value is not None] if len(node._inputs) <= WIDE else None
    for rule, pattern, required in rules:
        if producers is not None and not _may_match(required, producers):
            continue
        match = match_node(pattern, node)
        if match is None:
            continue
        grown = rule.grow(match)
        if grown is None:
            continue
        reason = grown if isinstance(grown, str) else refusal(rule, grown)
        if reason is not None or isinstance(grown, str):
            context.refused(rule.name, node, str(reason))
        elif context.allows(rule.name, rule.exactness):
            affected = _rewrite(rule, grown, context)
            if affected is not None:
                return rule, affected
    return None, []


def refusal(rule: Rule, match: Match) -> str | None:
    """Why `rule` must leave `match` alone, or None."""
    if not rule.keeps_interior:
        matched = dict.fromkeys(match.nodes)
        for node in match.interior:
            if any(value.is_output or value.is_input for value in node.outputs):
                return f"'{printable(node.name)}' is an input or output of the graph"
            for user in node.successors():
                if user not in matched:
                    return f"'{printable(node.name)}' is also read by '{printable(user.name)}'"
    return rule.check(match)


def explain(rule: Rule, node: Node) -> str:
    """One sentence on what `rule` makes of `node`: it applies, it refuses, or how far it matched."""
    best: list[tuple[int, str]] = []
    trace: Trace = lambda depth, reason: best.append((depth, reason))  # noqa: E731
    match = match_node(build_pattern(rule.pattern), node, trace)
    if match is None:
        return "does not match: " + (max(best, key=lambda item: item[0])[1] if best else "other operator")
    grown = rule.grow(match)
    if grown is None:
        return "does not match: what surrounds the pattern is not what the rule is for"
    reason = grown if isinstance(grown, str) else refusal(rule, grown)
    return "applies" if reason is None else f"refuses: {reason}"


def _rewrite(rule: Rule, match: Match, context: PassContext) -> list[Node] | None:
    """Replace the match; returns nodes worth another look, or None if the rule left it after all."""
    root, graph = match.root, match.graph
    removed = tuple(match.nodes)
    edit = Editor(match)
    try:
        values = _as_outputs(rule, root, rule.rewrite(match, edit))
        _check_values(rule, root, values or ())
    except BaseException:
        edit.discard()
        raise
    if values is None:
        edit.discard()
        return None
    reason = _replace(root, match, values, edit)
    if reason is not None:
        edit.discard()
        context.refused(rule.name, root, reason)
        return None
    affected: dict[Node, None] = {}
    for node in edit.created:
        affected[node] = None
    for value in values:
        if value is not None:
            affected.update(dict.fromkeys(value.users))
            affected[value.node] = None
    producers = tuple(root.predecessors())
    if not root.has_uses:
        graph.remove(root)  # even one with effects: replacing it is what the rule is for
    affected.update(dict.fromkeys(remove_dead(graph, (*match.interior, *producers))))
    edit.claim_names()
    context.rewrote(rule.name, removed, tuple(node for node in edit.created if node.graph is graph))
    return list(affected)


def _as_outputs(rule: Rule, root: Node, result: Replacement) -> list[Value | None] | None:
    if result is None:
        return None
    values: list[Value | None] = [result] if isinstance(result, Value) else list(result)
    if len(values) > len(root.outputs):
        raise PassError(
            f"rule '{rule.name}' gives {len(values)} values for the {len(root.outputs)} outputs of "
            f"'{printable(root.name)}'"
        )
    return values + [None] * (len(root.outputs) - len(values))


def _check_values(rule: Rule, root: Node, values: Sequence[Value | None]) -> None:
    for old, new in zip(root.outputs, values, strict=False):
        if new is None:
            continue
        if new.node.graph is not root.graph:
            raise PassError(
                f"rule '{rule.name}' would replace '{printable(old.name)}' by '{printable(new.name)}', which is no "
                "value of the graph"
            )
        known = old.dtype.code and new.dtype.code
        if (known and old.dtype is not new.dtype) or old.shape.merged(new.shape) is None:
            raise PassError(
                f"rule '{rule.name}' would replace '{printable(old.name)}' of type {old.type} by a value of type "
                f"{new.type}"
            )


def _replace(root: Node, match: Match, values: Sequence[Value | None], edit: Editor) -> str | None:
    """Put `values` in place of the outputs of `root`; returns a reason, with nothing changed, if that cannot be."""
    graph = match.graph
    fresh = dict.fromkeys(edit.created)
    heir = next((value.node for value in values if value is not None), None)
    for old, new in zip(root.outputs, values, strict=True):
        if new is None and (old.use_count or old.is_output):
            return f"nothing replaces its output {old.index}, which is in use"
        if old.is_input:
            return "it is an input of the graph"
        named = new is not None and new.node in fresh and _carries_name(old, new, heir)
        if new is not None and old.is_output and old.index and not named:
            return f"its output '{printable(old.name)}' is an output of the graph"
    if heir is not None and root.op == "tf.Identity" and _keeps_root(root, values, heir, fresh):
        return "it is an output of the graph"
    gone = [root, *(node for node in match.interior if not rule_keeps(node, match))]
    waits = list(dict.fromkeys(control for node in gone for control in node.control_inputs if control not in gone))
    anchored = root.control_users or root in graph.targets
    if waits and (heir is None or heir not in fresh):
        return f"it waits for '{printable(waits[0].name)}'"
    if anchored and heir is None:
        return "other nodes wait for it"
    if anchored and heir is not None and heir not in fresh and traits_of(heir.op) & Trait.CONTROL_FLOW:
        return "it anchors control dependencies of a v1 branch"
    if root in graph.targets and (heir is None or heir not in fresh):
        return "it is a target of the graph"
    if not _frame_is_kept(graph, match, edit):
        return "a constant in its place would leave its v1 loop or branch"
    _pass_on(root, values, heir, fresh, waits)
    return None


def _carries_name(old: Value, new: Value, heir: Node | None) -> bool:
    """`new` is called what `old` was once its node, the heir, has taken the name of the root."""
    return new.node is heir and new.index == old.index


def _keeps_root(root: Node, values: Sequence[Value | None], heir: Node, fresh: dict[Node, None]) -> bool:
    """The root stays as an identity: it is an output, and what replaces it has a name of its own."""
    old, new = root.output, values[0]
    return old.is_output and new is not None and not (heir in fresh and _carries_name(old, new, heir))


def rule_keeps(node: Node, match: Match) -> bool:
    """An interior node that something outside the match reads, and that therefore stays."""
    matched = dict.fromkeys(match.nodes)
    return any(user not in matched for user in node.successors()) or any(v.is_output for v in node.outputs)


def _pass_on(
    root: Node, values: Sequence[Value | None], heir: Node | None, fresh: dict[Node, None], waits: list[Node]
) -> None:
    graph = root.graph
    assert graph is not None
    if heir is not None and heir in fresh:
        for control in waits:
            heir.add_control_input(control)
    name = root.name
    kept = heir is not None and _keeps_root(root, values, heir, fresh)
    if heir is not None and heir in fresh and heir.name != name and not kept:
        graph.rename(root, graph.unique_name(f"{name}/replaced"))
        graph.rename(heir, name)
    for user in root.control_users:
        user.remove_control_input(root)
        if heir is not None and heir is not user:
            user.add_control_input(heir)
    if root in graph.targets and heir is not None and not kept:
        replace_target(graph, root, heir)
    for old, new in zip(root.outputs, values, strict=True):
        if new is not None:
            if old.shape.rank is not None and new.shape != old.shape:
                merged = new.shape.merged(old.shape)
                new.type = new.type if merged is None else new.type.with_shape(merged)
            if not (kept and old.index == 0):
                graph.replace_value(old, new)
    if kept and values[0] is not None:
        _keep_output(root, values[0])


def replace_target(graph: Graph, old: Node, new: Node | None) -> None:
    """Make `new` a target where `old` is one, under the same name as control output; None: a target less."""
    kept = ((new if node is old else node) for node in graph.targets)
    graph.targets = [node for node in kept if node is not None]
    if isinstance(graph, Function):
        outputs = {key: new if node is old else node for key, node in graph.control_outputs.items()}
        graph.control_outputs = {key: node for key, node in outputs.items() if node is not None}


def _keep_output(root: Node, value: Value) -> None:
    """Turn the root into an identity of `value`."""
    root.output.replace_all_uses_with(value)
    root.op = "tf.Identity"
    root.attrs = {"T": value.dtype}
    root.set_inputs((value,))
    del root.outputs[1:]


def _frame_is_kept(graph: Graph, match: Match, edit: Editor) -> bool:
    """In a graph with v1 control flow, tie new constants to the frame and branch of what they replace."""
    lone = [node for node in edit.created if not node._inputs]
    if not lone or not has_v1_control_flow(graph):
        return True
    anchors = frame_anchors(match.captures())
    if anchors is None:
        return False
    for node in lone:
        for anchor in anchors:
            node.add_control_input(anchor)
    return True


def frame_anchors(values: Iterable[Value]) -> list[Node] | None:
    """Nodes that a constant computed from `values` must wait for to stay in their v1 frame and branch.

    None if there is no such node: a `Switch` itself runs whichever branch is taken.
    """
    anchors: dict[Node, None] = {}
    for value in values:
        node = value.node
        if node.op == "tf.Const":
            anchors.update(dict.fromkeys(node.control_inputs))
        elif traits_of(node.op) & Trait.CONTROL_FLOW and node.op.endswith("Switch"):
            return None
        else:
            anchors[node] = None
    return list(anchors)


def has_v1_control_flow(graph: Graph) -> bool:
    """The graph has a v1 `Switch`, `Merge`, `Enter` and so on. Remembered while the number of nodes stays."""
    remembered = _V1_CONTROL_FLOW.get(graph)
    if remembered is None or (not remembered[1] and remembered[0] < len(graph)):
        found = any(traits_of(node.op) & Trait.CONTROL_FLOW for node in graph)
        remembered = _V1_CONTROL_FLOW[graph] = (len(graph), found)
    return remembered[1]


def remove_dead(graph: Graph, candidates: Iterable[Node]) -> list[Node]:
    """Remove those candidates that nothing needs, and producers that become useless; returns producers kept."""
    pending = list(candidates)
    kept: dict[Node, None] = {}
    while pending:
        node = pending.pop()
        if node.graph is not graph or node.has_uses or not is_removable(node):
            kept[node] = None
            continue
        producers = list(dict.fromkeys(node.predecessors()))
        graph.remove(node)
        pending.extend(producers)
    return [node for node in kept if node.graph is graph]


def drop_dangling_colocations(graph: Graph) -> None:
    """Forget `_class` constraints that name nodes which are no longer there; TensorFlow refuses those."""
    for node in graph:
        listed = node.attrs.get("_class")
        if not isinstance(listed, tuple):
            continue
        kept = tuple(item for item in listed if not _is_dangling(item, graph))
        if len(kept) != len(listed):
            if kept:
                node.attrs["_class"] = kept
            else:
                del node.attrs["_class"]


def _is_dangling(item: Any, graph: Graph) -> bool:
    if not isinstance(item, bytes) or not item.startswith(COLOCATED):
        return False
    return graph.find(item[len(COLOCATED) :].decode("utf-8", "replace")) is None


def is_removable(node: Node) -> bool:
    """Without effects: removing it when nothing reads it changes nothing. Drawing random numbers is no effect."""
    traits = traits_of(node.op)
    return not traits & Trait.SOURCE and (not traits & Trait.STATEFUL or bool(traits & Trait.RANDOM))


class RewritePass(Pass):
    """A pass that is a set of rules, applied until none matches."""

    rules: ClassVar[tuple[type[Rule], ...]] = ()

    def make_rules(self) -> Sequence[Rule]:
        """The rules of this pass, configured by its options."""
        return [rule() for rule in self.rules]

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Apply the rules to one graph."""
        apply_rules(graph, self.make_rules(), context)
