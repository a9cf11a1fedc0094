"""The reference runtime: NumPy, node by node, as the operator table says. For checking, not for speed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef
from graphopt.ir.errors import Error, ResourceError, UnsupportedError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.ops.handles import maker
from graphopt.ir.ops.registry import attributes, find, traits_of
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import STRING
from graphopt.ir.types import dereferenced as plain_dtype
from graphopt.ir.value import Node, Value
from graphopt.runtimes.base import Array, Request, RunError, tensor_name
from graphopt.runtimes.reference_executor import Executor, Invocation, Running
from graphopt.runtimes.reference_lists import HANDLERS as LIST_HANDLERS
from graphopt.runtimes.reference_plan import Plan, Task
from graphopt.runtimes.reference_state import HANDLERS as STATE_HANDLERS
from graphopt.runtimes.reference_state import INITIALIZERS, Memory
from graphopt.runtimes.reference_values import Variable, dereferenced

CALL_DEPTH = 20_000  # bodies within bodies beyond which a function is taken to call itself for ever
# By-reference values go into these as they are; everything else reads the variable.
_BY_REFERENCE = frozenset(
    {
        "tf.RefIdentity",
        "tf.RefSwitch",
        "tf.RefMerge",
        "tf.RefEnter",
        "tf.RefExit",
        "tf.RefNextIteration",
        "tf.RefSelect",
    }
)


class ReferenceRuntime:
    """Runs models with NumPy. Variables and tables of a model keep their values between runs."""

    name = "reference"

    def __init__(self) -> None:
        self._memories: WeakKeyDictionary[Model, Memory] = WeakKeyDictionary()

    def run(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        signature: str | None = None,
    ) -> dict[str, Array]:
        """The signature's outputs, or `outputs`, each under the name it was asked for.

        Raises `UsageError` for names, element types and shapes that do not fit, `RunError` where a node fails and
        `UnsupportedError` for an operator without an evaluation.
        """
        request = Request(model, feeds, outputs, signature)
        run = _Run(model, self._memory(model))
        values = list(dict.fromkeys(request.fetches.values()))
        results = dict(zip(values, run.results(request, values), strict=True))
        return {name: _array_of(value, results[value]) for name, value in request.fetches.items()}

    def run_all(self, model: Model, feeds: Mapping[str, Any], signature: str | None = None) -> dict[str, Array]:
        """Every tensor on the way to the signature's outputs, by tensor name; of a v1 loop's, the last iteration."""
        request = Request(model, feeds, None, signature)
        seen: dict[str, Array] = {tensor_name(value): array for value, array in request.feeds.items()}

        def watch(value: Value, token: Any) -> None:
            token = dereferenced(token) if type(token) is not Variable or token.array is not None else None
            if isinstance(token, np.ndarray):
                seen[tensor_name(value)] = token

        _Run(model, self._memory(model)).results(request, list(dict.fromkeys(request.fetches.values())), watch)
        return seen

    def observe(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        see: Callable[[Value, Array], None],
        signature: str | None = None,
    ) -> dict[str, Array]:
        """Run the signature and call `see` with every array that is computed, each time it is, in functions too.

        Returns the signature's outputs. Raises what `run` raises.
        """
        request = Request(model, feeds, None, signature)

        def watch(value: Value, token: Any) -> None:
            token = dereferenced(token) if type(token) is not Variable or token.array is not None else None
            if isinstance(token, np.ndarray):
                see(value, token)

        for value, array in request.feeds.items():
            see(value, array)
        values = list(dict.fromkeys(request.fetches.values()))
        run = _Run(model, self._memory(model), watch)
        results = dict(zip(values, run.results(request, values, watch), strict=True))
        return {name: _array_of(value, results[value]) for name, value in request.fetches.items()}

    def _memory(self, model: Model) -> Memory:
        if model not in self._memories:
            self._memories[model] = Memory()
        return self._memories[model]


def _array_of(value: Value, token: Any) -> Array:
    token = dereferenced(token)
    if not isinstance(token, np.ndarray):
        raise RunError(f"'{tensor_name(value)}' is a {type(token).__name__.lower()}, not an array: fetch what reads it")
    return token


class _Run:
    """One run of a model, bodies included."""

    def __init__(self, model: Model, memory: Memory, watch_bodies: Callable[[Value, Any], None] | None = None):
        self._model, self._memory, self._watch_bodies = model, memory, watch_bodies
        self._plans: dict[Graph, Plan] = {}
        self._attrs: dict[Node, Mapping[str, Any]] = {}

    def results(
        self, request: Request, values: Sequence[Value], watch: Callable[[Value, Any], None] | None = None
    ) -> Sequence[Any]:
        """Tokens of `values`."""
        with np.errstate(all="ignore"):
            plan = Plan(request.graph, request.feeds, values, request.targets)
            initializers = _table_initializers(request.graph, plan)
            if initializers:
                self._drive(Executor(Plan(request.graph, {}, [], initializers), self._computer({})).run({}))
            return self._drive(Executor(plan, self._computer({}), watch).run(request.feeds))

    def _drive(self, root: Running) -> Sequence[Any]:
        """Run a graph and the bodies it asks for, without recursion."""
        stack: list[Running] = [root]
        answer: Any = None
        while True:
            try:
                asked = stack[-1].send(answer)
            except StopIteration as done:
                stack.pop()
                if not stack:
                    return list(done.value)
                answer = done.value
                continue
            if len(stack) > CALL_DEPTH:
                raise ResourceError(f"function '{printable(asked.graph.name)}' is called {CALL_DEPTH} levels deep")
            stack.append(self._body(asked))
            answer = None

    def _body(self, asked: Invocation) -> Running:
        graph = asked.graph
        if len(asked.arguments) != len(graph.inputs):
            raise RunError(
                f"function '{printable(graph.name)}' takes {len(graph.inputs)} arguments, not {len(asked.arguments)}"
            )
        plan = self._plans.get(graph)
        if plan is None:
            plan = self._plans[graph] = Plan(graph, graph.inputs, graph.outputs, graph.targets)
        feeds = dict(zip(graph.inputs, asked.arguments, strict=True))
        return Executor(plan, self._computer(asked.attrs), self._watch_bodies).run(feeds)

    def _computer(self, instantiation: Mapping[str, Any]) -> Callable[[Task, list[Any]], Running]:
        def compute(task: Task, inputs: list[Any]) -> Running:
            node = task.node
            try:
                if traits_of(node.op) & Trait.CALL or node.op_type in self._model.functions:
                    return (yield from self._call(node, inputs))
                return self._outputs(node, self._attributes(task, instantiation), inputs)
            except Error as error:
                if isinstance(error, RunError) and not str(error).startswith("node '"):
                    raise RunError(f"node '{printable(node.name)}' ({node.op_type}): {error}") from error
                raise
            except (ValueError, TypeError, IndexError, KeyError, ArithmeticError, AttributeError) as error:
                raise RunError(
                    f"node '{printable(node.name)}' ({node.op_type}) cannot be evaluated: "
                    f"{type(error).__name__}: {printable(str(error))}"
                ) from error

        return compute

    def _attributes(self, task: Task, instantiation: Mapping[str, Any]) -> Mapping[str, Any]:
        node = task.node
        if task.is_generic:
            resolved = {
                name: instantiation.get(attr.name) if isinstance(attr, AttributePlaceholder) else attr
                for name, attr in node.attrs.items()
            }
            operator = find(node.op)
            interface = operator.interface if operator is not None else None
            return resolved if interface is None else interface.with_defaults(resolved)
        if node not in self._attrs:
            self._attrs[node] = attributes(node)
        return self._attrs[node]

    def _outputs(self, node: Node, attrs: Mapping[str, Any], inputs: list[Any]) -> Sequence[Any]:
        op = node.op
        if op in STATE_HANDLERS:
            if inputs and isinstance(inputs[0], np.ndarray) and "Dense" not in op:
                raise RunError("takes a variable or a table, not an array: the model is frozen in part")
            operands = [*inputs[:1], *(dereferenced(item) for item in inputs[1:])]
            return STATE_HANDLERS[op](self._memory, node, attrs, operands)
        if op not in _BY_REFERENCE:
            inputs = [dereferenced(item) for item in inputs]
        if op in LIST_HANDLERS:
            return LIST_HANDLERS[op](node, attrs, inputs)
        if op in _EFFECTS:
            return _EFFECTS[op](inputs)
        return _evaluated(node, attrs, inputs)

    def _call(self, node: Node, inputs: list[Any]) -> Generator[Invocation, Sequence[Any], Sequence[Any]]:
        op, attrs = node.op, attributes(node)
        arguments = [dereferenced(item) for item in inputs]
        if op in ("tf.PartitionedCall", "tf.StatefulPartitionedCall"):
            return (yield self._invocation(node, attrs.get("f"), arguments))
        if op in ("tf.If", "tf.StatelessIf"):
            branch = "then_branch" if _truth(arguments[0]) else "else_branch"
            return (yield self._invocation(node, attrs.get(branch), arguments[1:]))
        if op in ("tf.Case", "tf.StatelessCase"):
            branches = attrs.get("branches") or ()
            index = int(arguments[0])
            chosen = branches[index if 0 <= index < len(branches) else -1]
            return (yield self._invocation(node, chosen, arguments[1:]))
        if op in ("tf.While", "tf.StatelessWhile"):
            while _truth((yield self._invocation(node, attrs.get("cond"), arguments))[0]):
                arguments = list((yield self._invocation(node, attrs.get("body"), arguments)))
            return arguments
        if node.op_type in self._model.functions:
            return (yield Invocation(self._model.functions[node.op_type], arguments, node.attrs))
        raise _unsupported(node)

    def _invocation(self, node: Node, reference: Any, arguments: Sequence[Any]) -> Invocation:
        function: Function | None = None
        if isinstance(reference, FunctionRef):
            function = self._model.functions.get(reference.name)
        if function is None:
            wanted = reference.name if isinstance(reference, FunctionRef) else ""
            raise RunError(f"calls function '{printable(wanted)}', which the model does not have")
        return Invocation(function, arguments, reference.attrs)


def _evaluated(node: Node, attrs: Mapping[str, Any], inputs: list[Any]) -> Sequence[Any]:
    """What the operator table says of this node's outputs."""
    operator = find(node.op)
    traits = operator.traits if operator is not None else Trait.NONE
    arrays = all(isinstance(item, np.ndarray) for item in inputs)
    passes_on = Trait.PASS_THROUGH in traits or node.op == "tf.PlaceholderWithDefault"
    if passes_on and (operator is None or operator.evaluate is None or not arrays):
        return inputs[: len(node.outputs)]
    if Trait.SOURCE in traits and not inputs:
        raise RunError("is not fed: give it a value")
    if operator is None or operator.evaluate is None:
        if not node.outputs:
            return []
        raise _unsupported(node)
    if not arrays:
        kinds = ", ".join(type(item).__name__ for item in inputs)
        raise RunError(f"takes arrays, not {kinds}")
    found = operator.evaluate(attrs, *inputs)
    outputs = list(found) if isinstance(found, (list, tuple)) else [found]
    if len(outputs) != len(node.outputs):
        raise RunError(f"was evaluated to {len(outputs)} outputs, but has {len(node.outputs)}")
    return [_checked(value, output) for value, output in zip(node.outputs, outputs, strict=True)]


def _checked(value: Value, output: Any) -> Array:
    array = np.asarray(output)
    dtype = plain_dtype(value.type.dtype)
    expected = dtype.numpy if dtype is not STRING else None
    if expected is not None and array.dtype != expected:
        raise RunError(f"was evaluated to {array.dtype}, but output {value.index} is {dtype}")
    return array


def _unsupported(node: Node) -> UnsupportedError:
    return UnsupportedError(
        f"node '{printable(node.name)}': the reference runtime cannot run {printable(node.op)}; "
        "use the runtime 'tensorflow'"
    )


def _truth(token: Array) -> bool:
    """What `If` and `While` take for true: a scalar other than zero or the empty string, a tensor with elements."""
    if token.ndim:
        return token.size > 0
    return bool(token.item())


def _assert(inputs: list[Any]) -> Sequence[Any]:
    if not bool(np.all(inputs[0])):
        shown = "; ".join(printable(str(item), 60) for item in inputs[1:])
        raise RunError(f"the assertion failed: {shown}")
    return []


def _nothing(inputs: list[Any]) -> Sequence[Any]:
    return []


def _abort(inputs: list[Any]) -> Sequence[Any]:
    raise RunError("the graph aborts the run")


def _first(inputs: list[Any]) -> Sequence[Any]:
    return inputs[:1]


_EFFECTS: Mapping[str, Callable[[list[Any]], Sequence[Any]]] = {
    "tf.LoopCond": _first,
    "tf.Assert": _assert,
    "tf.NoOp": _nothing,
    "tf.ControlTrigger": _nothing,
    "tf.PrintV2": _nothing,
    "tf.Abort": _abort,
}


def _table_initializers(graph: Graph, plan: Plan) -> list[Node]:
    """Nodes that fill, from constants of the graph, the tables that the plan's nodes look into."""
    tables = {task.node for task in plan.tasks if "Table" in task.node.op}
    if not tables:
        return []
    running = {task.node for task in plan.tasks}
    return [
        node
        for node in graph
        if node.op in INITIALIZERS and node not in running and node._inputs and maker(node._inputs[0]) in tables
    ]
