"""Which variables the handles and references of a model stand for, through calls and control flow, and their fate.

Each graph is looked at once, callees first. Within a function a handle stands for *tokens*: positions of the
function's own arguments, or names of variables; a call replaces positions by what it passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Union

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import ARGUMENT, VARIABLES, Function, Model, callees, variable_name
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.traversal import reachable
from graphopt.ir.types import RESOURCE
from graphopt.ir.value import Node, Value

Token = Union[int, str]  # noqa: UP007 (evaluated at run time on Python 3.10 as well)
Tokens = tuple[Token, ...]
OTHER = ""  # token of a resource that is no variable of the model, or not known to be one

READS = frozenset(
    {"tf.ReadVariableOp", "tf.ResourceGather", "tf.ResourceGatherNd", "tf.VariableShape", "tf.VarIsInitializedOp"}
    | {"tf.IsVariableInitialized", "tf.DisableCopyOnRead", "tf._ReadVariablesOp"}
)
HANDLE_CARRIERS = frozenset(
    f"tf.{name}" for name in ("Identity", "IdentityN", "Enter", "Exit", "Switch", "_SwitchN", "Merge", "NextIteration")
)
REFERENCE_CARRIERS = frozenset(
    f"tf.Ref{name}" for name in ("Identity", "Enter", "Exit", "Switch", "Merge", "NextIteration")
)
MERGES = frozenset({"tf.Merge", "tf.RefMerge"})
ASSIGNS = frozenset({"tf.Assign", "tf.AssignVariableOp"})
LOOPS = frozenset({"tf.While", "tf.StatelessWhile"})


class CallForm(NamedTuple):
    """How an operator calls: attributes that hold functions, the first operand passed on, and lists of types."""

    functions: tuple[str, ...]
    first: int
    operand_types: tuple[str, ...]
    result_types: str


_BRANCHES = ("then_branch", "else_branch")
CALL_FORMS = {
    "tf.PartitionedCall": CallForm(("f",), 0, ("Tin",), "Tout"),
    "tf.StatefulPartitionedCall": CallForm(("f",), 0, ("Tin",), "Tout"),
    "tf.RemoteCall": CallForm(("f",), 1, ("Tin",), "Tout"),
    "tf.BatchFunction": CallForm(("f",), 0, ("Tin", "Tcaptured"), "Tout"),
    "tf.If": CallForm(_BRANCHES, 1, ("Tin",), "Tout"),
    "tf.StatelessIf": CallForm(_BRANCHES, 1, ("Tin",), "Tout"),
    "tf.Case": CallForm(("branches",), 1, ("Tin",), "Tout"),
    "tf.StatelessCase": CallForm(("branches",), 1, ("Tin",), "Tout"),
    "tf.While": CallForm(("cond", "body"), 0, ("T",), "T"),
    "tf.StatelessWhile": CallForm(("cond", "body"), 0, ("T",), "T"),
}
DIRECT = CallForm((), 0, (), "")  # a function used as an operator


class Offence(NamedTuple):
    """What forbids taking a variable for a constant: the node, and what that does."""

    node: Node
    reason: str


class GraphFlow:
    """One graph: what its handles stand for, what its outputs are, and what is done to whom."""

    __slots__ = ("joins", "offences", "outputs", "tokens")

    def __init__(self) -> None:
        self.tokens: dict[Value, Tokens] = {}
        self.outputs: list[Tokens] = []
        self.offences: dict[Token, Offence] = {}
        self.joins: dict[Tokens, Node] = {}


class ModelFlow:
    """All graphs of a model. `needed` are the nodes of the main graph that some output, input or target needs, and
    `initial` those that only the model's initialisers do: what they assign is a variable's value, not a change of it.
    """

    def __init__(self, model: Model):
        self.model = model
        graph = model.graph
        initialisers = initialisers_of(model)
        roots = [value.node for value in (*graph.outputs, *graph.inputs)]
        roots += [node for node in graph.targets if node not in initialisers]
        self.needed = reachable(roots) if graph.outputs or graph.targets else dict.fromkeys(graph)
        self.initial = {node: None for node in reachable(initialisers) if node not in self.needed}
        self.flows: dict[Graph, GraphFlow] = {}
        self._in_progress: dict[Graph, None] = {}
        self.order = self._callees_first()
        for function in self.order:
            self.flows[function] = self._flow(function, None)
        self.main = self.flows[graph] = self._flow(graph, {**self.needed, **self.initial})

    # What became of the variables -----------------------------------------------------------------------------

    def offences(self) -> dict[str, Offence]:
        """Variables that something changes, or uses in a way that only a variable can be used: name -> first cause.

        What no output needs does not count; a function that is a signature does.
        """
        found: dict[str, Offence] = {}
        for flow in self._roots():
            for token, offence in flow.offences.items():
                if isinstance(token, str):
                    found.setdefault(token, offence)
        return found

    def joins(self) -> dict[tuple[str, ...], Node]:
        """Variables of which one value may stand for several: all of them or none can become constants."""
        found: dict[tuple[str, ...], Node] = {}
        for flow in self._roots():
            for tokens, node in flow.joins.items():
                found.setdefault(tuple(t if isinstance(t, str) else OTHER for t in tokens), node)
        return found

    def _roots(self) -> Iterator[GraphFlow]:
        yield self.main
        for signature in self.model.signatures.values():
            if signature.graph is not self.model.graph and signature.graph in self.flows:
                yield self.flows[signature.graph]

    # Calls ----------------------------------------------------------------------------------------------------

    def called(self, node: Node) -> tuple[CallForm, list[Function]] | None:
        """How `node` calls, and what; None where it does not, or what it calls is not there."""
        form = CALL_FORMS.get(node.op)
        functions = self.model.functions
        if form is None:
            function = functions.get(node.op_type)
            return None if function is None else self._fitting(node, DIRECT, [function])
        names: list[str] = []
        for attr in form.functions:
            held = node.attrs.get(attr)
            for item in held if type(held) is tuple else (held,):
                if not isinstance(item, FunctionRef) or item.name not in functions:
                    return None
                names.append(item.name)
        return self._fitting(node, form, [functions[name] for name in names])

    @staticmethod
    def _fitting(node: Node, form: CallForm, functions: list[Function]) -> tuple[CallForm, list[Function]] | None:
        count = node.input_count - form.first
        return (form, functions) if all(len(function.inputs) == count for function in functions) else None

    def operand_tokens(self, flow: GraphFlow, node: Node, form: CallForm) -> list[Tokens]:
        """What each operand that `node` passes on stands for; for a loop, over all iterations."""
        operands = [() if value is None else flow.tokens.get(value, ()) for value in node._inputs[form.first :]]
        if node.op not in LOOPS or not any(operands):
            return operands
        called = self.called(node)
        results = self.flows[called[1][1]].outputs if called is not None and called[1][1] in self.flows else []
        for _ in range(len(operands) + 1 if len(results) == len(operands) else 0):
            wider = [union((own, _bound(out, operands))) for own, out in zip(operands, results, strict=True)]
            if wider == operands:
                break
            operands = wider
        return operands

    def result_tokens(self, flow: GraphFlow, node: Node) -> list[Tokens]:
        """What each output of a call stands for."""
        called = self.called(node)
        if called is None:
            return [()] * len(node.outputs)
        form, functions = called
        operands = self.operand_tokens(flow, node, form)
        if node.op in LOOPS:
            return operands
        results: list[Tokens] = [()] * len(node.outputs)
        for function in functions:
            inner = self.flows.get(function)
            if inner is not None and len(inner.outputs) == len(results):
                pairs = zip(results, inner.outputs, strict=True)
                results = [union((own, _bound(out, operands))) for own, out in pairs]
        return results

    # One graph ------------------------------------------------------------------------------------------------

    def _flow(self, graph: Graph, needed: dict[Node, None] | None) -> GraphFlow:
        flow = GraphFlow()
        self._spread(graph, flow)
        users = dict.fromkeys(user for value in flow.tokens for user in value.users)
        calling = [node for node in graph if node.op in CALL_FORMS or node.op_type in self.model.functions]
        for node in dict.fromkeys((*users, *calling)):
            if needed is None or (node in needed and not self.is_initialisation(node)):
                for token, offence in self.offences_at(flow, node):
                    flow.offences.setdefault(token, offence)
                for tokens in self.joins_at(flow, node):
                    flow.joins.setdefault(tokens, node)
        flow.outputs = [flow.tokens.get(value, ()) for value in graph.outputs]
        return flow

    def _spread(self, graph: Graph, flow: GraphFlow) -> None:
        """Follow handles from where they are made to where they are used."""
        pending: dict[Node, None] = {}  # a call that takes a thousand handles is looked at once for all of them
        for node in graph:
            name = variable_name(node) if node.op in VARIABLES else None
            if name is not None and node.outputs and not node.output.is_input:
                flow.tokens[node.output] = (name,)
                pending.update(dict.fromkeys(node.output.users))
            elif node.op in CALL_FORMS or node.op_type in self.model.functions:
                pending[node] = None
        if isinstance(graph, Function):
            for place, value in enumerate(graph.inputs):
                if value.dtype is RESOURCE and value.node.op == ARGUMENT:
                    flow.tokens[value] = (place,)
                    pending.update(dict.fromkeys(value.users))
        while pending:
            node, _ = pending.popitem()
            for value, tokens in zip(node.outputs, self._carried(flow, node), strict=False):
                if tokens and tokens != flow.tokens.get(value) and not value.is_input:
                    flow.tokens[value] = tokens
                    pending.update(dict.fromkeys(value.users))

    def _carried(self, flow: GraphFlow, node: Node) -> list[Tokens]:
        """What each output of `node` stands for, as far as is known by now."""
        if node.op in CALL_FORMS or node.op_type in self.model.functions:
            return self.result_tokens(flow, node)
        operands = [() if value is None else flow.tokens.get(value, ()) for value in node._inputs]
        handle = bool(node._inputs) and node._inputs[0] is not None and node._inputs[0].dtype is RESOURCE
        if node.op == "tf.IdentityN":
            pairs = zip(node._inputs, operands, strict=True)
            return [tokens if value is not None and value.dtype is RESOURCE else () for value, tokens in pairs]
        if node.op not in (HANDLE_CARRIERS if handle else REFERENCE_CARRIERS):
            return []
        if node.op in MERGES:
            return [union(operands)]
        return [operands[0]] * len(node.outputs)

    def is_initialisation(self, node: Node) -> bool:
        """`node` gives a variable its value before anything runs, and is run for nothing else."""
        return node in self.initial and node.op in ASSIGNS

    def offences_at(self, flow: GraphFlow, node: Node) -> Iterator[tuple[Token, Offence]]:
        """What `node` does to what its operands stand for, and its callees do."""
        if node.op in CALL_FORMS or node.op_type in self.model.functions:
            yield from self._offences_of_call(flow, node)
            return
        if node.op in READS or node.op in REFERENCE_CARRIERS:
            return
        for place, value in enumerate(node._inputs):
            tokens = flow.tokens.get(value, ()) if value is not None else ()
            if not tokens or value is None:
                continue
            if value.dtype is RESOURCE:
                if node.op not in HANDLE_CARRIERS:
                    yield from self._each(tokens, node)
            elif _takes_reference(node, place):
                yield from self._each(tokens, node)

    def _each(self, tokens: Tokens, node: Node) -> Iterator[tuple[Token, Offence]]:
        where = f" of function '{printable(node.graph.name)}'" if isinstance(node.graph, Function) else ""
        reason = f"node '{printable(node.name)}' ({node.op_type}){where} changes it"
        for token in tokens:
            yield token, Offence(node, reason)

    def _offences_of_call(self, flow: GraphFlow, node: Node) -> Iterator[tuple[Token, Offence]]:
        called = self.called(node)
        if called is None or not all(function in self.flows for function in called[1]):
            reason = f"node '{printable(node.name)}' ({node.op_type}) passes it to a function that is not known"
            for value in node._inputs:
                for token in flow.tokens.get(value, ()) if value is not None else ():
                    yield token, Offence(node, reason)
            return
        operands = self.operand_tokens(flow, node, called[0])
        for function in called[1]:
            for token, offence in self.flows[function].offences.items():
                for own in (token,) if isinstance(token, str) else operands[token]:
                    yield own, offence

    def joins_at(self, flow: GraphFlow, node: Node) -> Iterator[Tokens]:
        """Groups of tokens that values made by `node`, or within its callees, stand for together."""
        if node.op in MERGES:
            groups = [[flow.tokens.get(v, (OTHER,)) for v in node._inputs if v is not None]]
        elif (called := self.called(node)) is not None:
            operands = self.operand_tokens(flow, node, called[0])
            groups = self._loop_groups(called[1], operands) if node.op in LOOPS else []
            for function in called[1]:
                inner = self.flows.get(function)
                for join in inner.joins if inner is not None else ():
                    groups.append([_bound(join, operands, missing=(OTHER,))])
            if node.op not in LOOPS:
                flows = [self.flows[function] for function in called[1] if function in self.flows]
                for place, result in enumerate(self.result_tokens(flow, node)):
                    if result:
                        outs = [f.outputs[place] if place < len(f.outputs) else () for f in flows]
                        groups.append([_bound(out, operands) or (OTHER,) for out in outs])
        else:
            return
        for group in groups:
            together = union(group)
            if len(together) > 1:
                yield together

    def _loop_groups(self, functions: list[Function], operands: list[Tokens]) -> list[list[Tokens]]:
        """What the variables of a loop stand for before it and after an iteration."""
        body = self.flows.get(functions[1])
        if body is None or len(body.outputs) != len(operands):
            return [[tokens] for tokens in operands]
        pairs = zip(operands, body.outputs, strict=True)
        return [[own, _bound(out, operands) or (OTHER,)] for own, out in pairs if own]

    def _callees_first(self) -> list[Function]:
        """Every function after those it calls, as far as functions do not call themselves."""
        done: dict[Function, None] = {}
        open_: dict[Function, Iterator[str]] = {}
        for root in self.model.functions.values():
            stack = [] if root in done else [root]
            while stack:
                function = stack[-1]
                if function not in open_:
                    open_[function] = iter(dict.fromkeys(name for node in function for name in callees(node)))
                name = next(open_[function], None)
                if name is None:
                    done[stack.pop()] = None
                    continue
                called = self.model.functions.get(name)
                if called is not None and called not in open_:
                    stack.append(called)
        return list(done)


def initialisers_of(model: Model) -> dict[Node, None]:
    """Targets of the main graph that are run once, before anything else, where the format says which are."""
    names = getattr(model.metadata.get("metagraph"), "initialisers", ())
    nodes = (model.graph.find(name) for name in names)
    return {node: None for node in nodes if node is not None and node in model.graph.targets}


def state_functions(model: Model) -> dict[str, None]:
    """Functions that make and fill the tables and other resources of the main graph when the model is loaded.

    No node need call them: the format says which they are.
    """
    state = getattr(model.metadata.get("metagraph"), "state", {})
    return {name: None for node, names in state.items() if model.graph.find(node) is not None for name in names}


def _takes_reference(node: Node, place: int) -> bool:
    """`node` writes through a reference at input `place`: its operator asks for a reference there."""
    known = interface(node.op_type)
    if known is None:
        return True
    count = 0
    for argument in known.inputs:
        try:
            count += len(argument.dtypes(node.attrs))
        except (KeyError, ValueError):
            count += 1
        if place < count:
            return argument.is_ref
    return False


def union(groups: Iterable[Tokens]) -> Tokens:
    """All tokens, each once, in order."""
    return tuple(dict.fromkeys(token for group in groups for token in group))


def _bound(tokens: Tokens, operands: Sequence[Tokens], missing: Tokens = ()) -> Tokens:
    """`tokens` of a callee in terms of its caller."""
    return union((token,) if isinstance(token, str) else (operands[token] or missing) for token in tokens)
