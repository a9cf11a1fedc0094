"""Variables whose value is known because nothing in the model changes it, and weights that stay variables.

What a model's handles stand for is looked into once and remembered: rewriting adds no assignments, and functions made
later are simply not known. `forget` is for those who add assignments.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from graphopt.ir.graph import Graph
from graphopt.ir.model import (
    ARGUMENT,
    VARIABLES,
    Function,
    Model,
    Variable,
    callees,
    function_references,
    variable_name,
)
from graphopt.ir.ops import Trait, find
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import RESOURCE, dereferenced
from graphopt.ir.value import Node, Value
from graphopt.ir.variable_flow import CALL_FORMS, HANDLE_CARRIERS, OTHER, READS, REFERENCE_CARRIERS, ModelFlow, Tokens

READ = "tf.ReadVariableOp"
CONSTANT = "tf.Const"
THROUGH = frozenset({"tf.Identity", "tf.RefIdentity", "tf.Enter", "tf.RefEnter", "tf.Switch", "tf.RefSwitch"})
_PLAIN = frozenset({"tf.Identity", "tf.RefIdentity"})
LIMIT = 32  # carriers looked through, and values looked at on the way to variables
_RESHAPES = frozenset({"tf.Identity", "tf.Reshape", "tf.Squeeze", "tf.ExpandDims", "tf.Cast"})
_ADDS = {"tf.AddV2": (0, 1), "tf.Add": (0, 1), "tf.BiasAdd": (1,), "tf.Sub": (0,)} | {
    f"tf.FusedBatchNorm{version}": (2,) for version in ("", "V2", "V3")
}
_REMEMBERED: WeakKeyDictionary[Model, tuple[tuple[int, ...], KnownVariables]] = WeakKeyDictionary()


class KnownVariables:
    """Which variables nothing changes, and what the arguments of functions are bound to at every call."""

    __slots__ = ("_arguments", "_changed", "_handles", "_idle", "_model_variables", "_waiting")

    def __init__(self, model: Model):
        flow = ModelFlow(model)
        self._model_variables = model.variables
        self._changed = frozenset(flow.offences())
        self._arguments = _bindings(flow)
        self._handles: dict[str, list[Value]] = {}
        self._idle: set[Node] = set()  # readers in the main graph that no output needs: savers
        self._waiting: dict[str, list[tuple[Node, Value]]] = {}
        live = _live(flow)
        for graph, found in flow.flows.items():
            if graph not in live:
                continue
            bound = self._arguments.get(graph, [])
            for value, tokens in found.tokens.items():
                names = dict.fromkeys(t if isinstance(t, str) else bound[t] for t in tokens if _is_bound(t, bound))
                for name in names:
                    self._handles.setdefault(name or OTHER, []).append(value)
                if graph is model.graph:
                    self._idle.update(user for user in value.users if user not in flow.needed)

    def variable(self, handle: Value | None) -> Variable | None:
        """The one variable that `handle`, a resource or a reference, stands for, if nothing changes it."""
        name = self._name(handle)
        return None if not name or name in self._changed else self._model_variables.get(name)

    def _name(self, handle: Value | None) -> str | None:
        for _ in range(LIMIT):
            if handle is None or (handle._inputs and handle.node.op != ARGUMENT):
                return None
            node = handle.node
            if node.op in VARIABLES:
                return variable_name(node)
            if node.op == ARGUMENT:
                graph = node.graph
                bound = self._arguments.get(graph, []) if graph is not None else []
                places = graph.inputs if graph is not None else ()
                return next((name for value, name in zip(places, bound, strict=False) if value is handle), None)
            if node.op not in THROUGH:
                return None
            handle = node._inputs[0] if node._inputs else None
        return None

    def is_read(self, name: str, model: Model) -> bool:
        """Something still reads the value of the variable `name`; savers do not count."""
        for handle in self._handles.get(name, ()):
            graph = handle.node.graph
            if graph is None or (graph is not model.graph and model.functions.get(graph.name) is not graph):
                continue
            if handle.is_output or any(self._reads(user, handle) for user in handle.users):
                return True
        return False

    def wait(self, name: str, node: Node, handle: Value) -> None:
        """The constant `node` would be in the variable `name`, whose handle here is `handle`, if nothing else read it.

        Signatures that share weights compute the same of them: the last one to do so has them to itself.
        """
        self._waiting.setdefault(name, []).append((node, handle))

    def join(self, name: str, held: Tensor) -> None:
        """Let those who wait for the variable `name` read it, if they are what it holds now: `held`."""
        for node, handle in self._waiting.pop(name, ()):
            mine = node.attrs.get("value") if node.op == CONSTANT else None
            if not isinstance(mine, Tensor) or node.graph is None or node.graph is not handle.node.graph:
                continue
            if mine.stored_bytes == held.stored_bytes and mine.fingerprint() == held.fingerprint():
                _read_instead(node, handle, held)

    def _reads(self, user: Node, handle: Value) -> bool:
        if user in self._idle:
            return False
        if user.op in CALL_FORMS:
            model = user.graph.model if user.graph is not None else None
            references = [user.attrs.get(name) for name in CALL_FORMS[user.op].functions]
            called = [item for held in references for item in (held if type(held) is tuple else (held,))]
            names = [getattr(item, "name", "") for item in called if item is not None]
            return model is None or any(model.functions.get(name) not in self._arguments for name in names)
        if handle.dtype is not RESOURCE and user.op not in REFERENCE_CARRIERS:
            return _is_used(user) or not user.outputs
        if user.op in HANDLE_CARRIERS or user.op in REFERENCE_CARRIERS:
            return not any(value in self._handles.get(self._name(handle) or OTHER, ()) for value in user.outputs)
        return user.op not in READS or _is_used(user)


def _is_used(node: Node) -> bool:
    """Something may need what `node` yields: more than a few operators whose own results nobody reads."""
    pending, seen = [node], {node: None}
    while pending:
        found = pending.pop()
        if found is not node and not (known_operator(found) and not found.control_users and not _is_target(found)):
            return True
        for value in found.outputs:
            if value.is_output or value.is_input:
                return True
            for user in value.users:
                if user not in seen:
                    seen[user] = None
                    pending.append(user)
        if len(seen) > LIMIT:
            return True
    return False


def _is_target(node: Node) -> bool:
    return node.graph is not None and node in node.graph._targets


def _live(flow: ModelFlow) -> dict[Graph, None]:
    """The main graph, and functions that it calls for something else than saving and restoring variables."""
    model = flow.model
    found: dict[Graph, None] = {model.graph: None}
    pending = [name for node in (*flow.needed, *flow.initial) for name in callees(node)]
    pending += [signature.graph.name for signature in model.signatures.values()]
    while pending:
        function = model.functions.get(pending.pop())
        if function is None or function in found:
            continue
        found[function] = None
        pending += dict.fromkeys(name for node in function for name in callees(node))
        pending += [reference.name for value in function.attrs.values() for reference in function_references(value)]
        pending += [function.gradient] if function.gradient else []
    return found


def _is_bound(token: int | str, bound: list[str | None]) -> bool:
    return isinstance(token, str) or token < len(bound)


def _bindings(flow: ModelFlow) -> dict[Graph, list[str | None]]:
    """The one variable that each argument of each function stands for at all of its calls, None if there is none."""
    model = flow.model
    found: dict[Graph, list[Tokens]] = {function: [()] * len(function.inputs) for function in flow.order}
    closed = _called_plainly(flow)
    for caller in (model.graph, *reversed(flow.order)):
        outer = flow.flows[caller]
        for node in caller:
            called = flow.called(node)
            if called is None:
                continue
            own = found.get(caller, [])
            operands = flow.operand_tokens(outer, node, called[0])
            concrete = [_concrete(tokens, own) for tokens in operands]
            for function in called[1]:
                if function in found:
                    pairs = zip(found[function], concrete, strict=True)
                    found[function] = [tuple(dict.fromkeys((*left, *right))) for left, right in pairs]
    return {
        function: [_only(tokens) if function in closed else None for tokens in places]
        for function, places in found.items()
    }


def _concrete(tokens: Tokens, own: list[Tokens]) -> Tokens:
    if not tokens:
        return (OTHER,)
    return tuple(name for token in tokens for name in ((token,) if isinstance(token, str) else own[token] or (OTHER,)))


def _only(tokens: Tokens) -> str | None:
    return tokens[0] if len(tokens) == 1 and isinstance(tokens[0], str) and tokens[0] != OTHER else None


def _called_plainly(flow: ModelFlow) -> dict[Function, None]:
    """Functions that nothing refers to but calls whose operands are known."""
    model = flow.model
    closed = dict.fromkeys(flow.order)
    references: list[str] = []
    for graph in model.graphs:
        for node in graph:
            if flow.called(node) is None:
                references += callees(node)
        if isinstance(graph, Function):
            references += [r.name for value in graph.attrs.values() for r in function_references(value)]
            references += [graph.gradient] if graph.gradient else []
    references += [signature.graph.name for signature in model.signatures.values()]
    for name in references:
        function = model.functions.get(name)
        if function is not None:
            closed.pop(function, None)
    return closed


def known_variables(model: Model) -> KnownVariables:
    """What is known of the variables of `model`, looked into once."""
    graph = model.graph
    stamp = (len(model.functions), len(model.variables), len(graph.outputs), len(graph.targets))
    remembered = _REMEMBERED.get(model)
    if remembered is None or remembered[0] != stamp:
        remembered = _REMEMBERED[model] = (stamp, KnownVariables(model))
    return remembered[1]


def forget(model: Model) -> None:
    """Look into the variables of `model` anew when next asked: for those who add or remove assignments."""
    _REMEMBERED.pop(model, None)


def read_variable(node: Node) -> Variable | None:
    """The variable whose value `node` yields, if nothing in the model changes it.

    `node` is a ReadVariableOp, or a node of a reference variable, whose reader sees through it.
    """
    model = node.graph.model if node.graph is not None else None
    if model is None or not model.variables:
        return None
    if node.op == READ:
        return known_variables(model).variable(node._inputs[0] if node._inputs else None)
    return known_variables(model).variable(node.output) if node.op in VARIABLES and node.outputs else None


def variable_tensor(node: Node) -> Tensor | None:
    """The value that `node`, a read or a reference variable, always yields; None if that may change."""
    variable = read_variable(node)
    if variable is None or variable.value is None or not node.outputs:
        return None
    return variable.value if dereferenced(node.output.dtype) is variable.value.dtype else None


def variables_read(places: Iterable[tuple[Node, int]]) -> dict[str, Value]:
    """Variables, nothing of which changes, that inputs of nodes are computed from: name -> handle in the graph at hand.

    `places` are (node, index of the input). Of inputs that also depend on other things nothing is said. Variables that
    are added to what they meet come first: they are biases. Handles of v1 loops and branches are left out.
    """
    added: dict[str, Value] = {}
    others: dict[str, Value] = {}
    for user, index in places:
        for node, is_added in _readers(user._inputs[index], _adds(user, index)):
            variable, handle = read_variable(node), _plain_handle(node)
            if variable is not None and handle is not None:
                (added if is_added else others).setdefault(variable.name, handle)
    return {**added, **others}


def _readers(start: Value | None, is_added: bool) -> list[tuple[Node, bool]]:
    """The nodes that read the variables from which, and constants, `start` is computed; none if from anything else."""
    pending, seen = [(start, is_added)], {start: None}
    found: list[tuple[Node, bool]] = []
    while pending:
        value, is_added = pending.pop()
        node = value.node if value is not None and not value.is_input else None
        if node is None or len(seen) > LIMIT:
            return []
        if node.op == READ or node.op in VARIABLES:
            found.append((node, is_added))
        elif node.op != CONSTANT:
            if not node._inputs or not (node.op in _PLAIN or known_operator(node)):
                return []
            for index, operand in enumerate(node._inputs):
                if operand not in seen:
                    seen[operand] = None
                    pending.append((operand, is_added if node.op in _RESHAPES else _adds(node, index)))
    return found


def known_operator(node: Node) -> bool:
    """`node` computes one value from others, whatever they are, and does nothing else."""
    operator = find(node.op)
    if operator is None or operator.evaluate is None or len(node.outputs) != 1:
        return False
    return not operator.traits & Trait.STATEFUL and not node.control_inputs


def _adds(node: Node, index: int) -> bool:
    """What `node` reads at `index` is added to something."""
    return node.op in _ADDS and index in _ADDS[node.op]


def _plain_handle(node: Node) -> Value | None:
    """The handle that `node` reads from, or its own reference, if that stands in its graph."""
    handle = node._inputs[0] if node.op == READ else node.output
    while handle is not None and handle.node.op in _PLAIN:
        handle = handle.node._inputs[0]
    return handle if handle is not None and (handle.node.op in VARIABLES or handle.node.op == ARGUMENT) else None


def keep_in_variable(node: Node, sources: dict[str, Value]) -> str | None:
    """Let the constant `node` be a variable's value instead, if it was computed from `sources` and one of those of its
    type and shape has no reader any more; returns its name. Weights of an unfrozen model so stay in its checkpoint.

    Where a variable has readers left, `node` stays a constant until one of those makes the variable hold the same.
    """
    held, graph = node.attrs.get("value"), node.graph
    if not isinstance(held, Tensor) or graph is None or graph.model is None:
        return None
    if held.dtype.kind not in ("float", "complex"):  # integers are axes, shapes and the like
        return None
    model = graph.model
    known = known_variables(model)
    fitting = [name for name in sources if _fits(model.variables.get(name), held)]
    for name in sorted(fitting, key=lambda name: not model.variables[name].trainable):
        handle = sources[name]
        if handle.node.graph is graph and not known.is_read(name, model):
            model.variables[name].value, model.variables[name].derived = held, True
            _read_instead(node, handle, held)
            known.join(name, held)
            return name
    for name in fitting:
        known.wait(name, node, sources[name])
    return None


def _read_instead(node: Node, handle: Value, held: Tensor) -> None:
    """Make of a constant a read of the variable that `handle` stands for."""
    is_resource = handle.dtype is RESOURCE
    node.op = READ if is_resource else "tf.Identity"
    node.attrs = {"dtype" if is_resource else "T": held.dtype}
    node.set_inputs((handle,))


def _fits(variable: Variable | None, held: Tensor) -> bool:
    value = variable.value if variable is not None else None
    return value is not None and value.dtype is held.dtype and value.shape == held.shape


def drop_dead_reads(handles: Iterable[Value]) -> None:
    """Remove reads, of variables that nothing changes, whose values nobody uses any more."""
    for handle in handles:
        for node in handle.users:
            graph = node.graph
            if node.op != READ or graph is None or node.output.use_count or node.output.is_output:
                continue
            if node.output.is_input or node in graph.targets:
                continue
            for user in node.control_users:
                user.remove_control_input(node)
                for control in node.control_inputs:
                    if control is not user:
                        user.add_control_input(control)
            graph.remove(node)
