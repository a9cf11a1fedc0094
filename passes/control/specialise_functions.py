"""specialise-functions: what is known at a call goes into the body, and what the body does not need goes away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.ir.graph import Graph
from graphopt.ir.known import constant_type, known_tensor
from graphopt.ir.model import ARGUMENT, Function, Model, callees, variable_name
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.call_sites import (
    Site,
    clone_function,
    is_passed_through,
    reference_counts,
    remove_arguments,
    remove_results,
    site_of,
    strip_body,
)
from graphopt.passes.functions.call_graph import callees_first
from graphopt.passes.removal import is_removable

ROUNDS = 8  # of going down and up the calls, before what is left is left
SHARED = 1 << 16  # bytes of a constant up to which each body gets its own where several read it
Known = dict[int, Node]  # place of an argument -> the constant or handle that it always is


@dataclass(frozen=True)
class SpecialiseFunctions(Pass):
    """Put constants and variables known at a call into the body, and drop arguments and results that are not used.

    *Given*

        function @f(%a: float32, %b: float32, %unused: float32) -> (%c, %d) {
          %c = tf.Mul(%a, %b)
          %d = tf.Neg(%a)
        }
        %two = tf.Const() {value = float32[] 2.0}
        %y = tf.PartitionedCall(%x, %two, %x) {f = @f}

    *Result* where nothing reads `%y:1`

        function @f(%a: float32) -> (%c) {
          %b = tf.Const() {value = float32[] 2.0}
          %c = tf.Mul(%a, %b)
        }
        %y = tf.PartitionedCall(%x) {f = @f}

    That is for calls, `If`, `Case` and `While`; a loop's variable is known if the body passes it on unchanged, and it
    is dropped if neither the condition nor an effect nor another variable that is used needs it. Where calls of one
    function differ, each gets a clone; calls that agree share one. `variables` also puts handles of variables into
    bodies; a constant of more than 64 KiB goes only where nobody else reads it.

    Refuses generic functions, and results that are outputs of the graph.
    """

    variables: bool = True

    def run(self, model: Model, context: PassContext) -> None:
        """Go down the calls with what is known, and up again with what is not needed, until nothing changes."""
        for _ in range(ROUNDS):
            before = context.log.total
            work = _Work(self, model, context)
            functions = callees_first(model)
            for graph in (model.graph, *reversed(functions)):
                work.visit(graph)
            if context.log.total == before:
                return


class _Work:
    """One way down the calls."""

    def __init__(self, options: SpecialiseFunctions, model: Model, context: PassContext):
        self.options, self.model, self.context = options, model, context
        self.counts = reference_counts(model)
        self._clones: dict[tuple[Any, ...], Function] = {}

    def visit(self, graph: Graph) -> None:
        """Specialise every call in `graph`."""
        if isinstance(graph, Function) and self.context.allows(self.options.name) and strip_body(graph):
            self.context.rewrote(self.options.name)
        for node in graph:
            site = site_of(node, self.model)
            if site is not None:
                self._specialise(graph, site)

    def _specialise(self, graph: Graph, site: Site) -> None:
        if site.is_loop:
            self._forward_invariants(graph, site)
        known = self._known(site)
        results = self._unused_results(site)
        arguments = self._unused_arguments(site, known, results)
        if not (known or results or arguments) or not self.context.allows(self.options.name):
            return
        for place in range(len(site.functions)):
            is_condition = site.is_loop and place == 0
            site.set_function(place, self._specialised(site, place, known, arguments, () if is_condition else results))
        if results and not site.is_loop:
            site.remove_results(results)
        site.remove_operands(arguments)
        self.context.rewrote(self.options.name, removed=(site.node,), added=(site.node,))

    # What may change ------------------------------------------------------------------------------------------

    def _forward_invariants(self, graph: Graph, site: Site) -> None:
        """Let who reads a variable that a loop does not change read its value at the start."""
        for place, (value, result) in enumerate(zip(site.operands, site.node.outputs, strict=True)):
            if (
                result.use_count and is_passed_through(site.functions[1], place)
                and value.dtype is result.dtype and self.context.allows(self.options.name)
            ):  # fmt: skip
                result.replace_all_uses_with(value)
                self.context.rewrote(self.options.name)

    def _known(self, site: Site) -> Known:
        found: Known = {}
        for place, value in enumerate(site.operands):
            if site.is_loop and not is_passed_through(site.functions[1], place):
                continue
            used = any(_is_needed(function.inputs[place]) for function in site.functions)
            source = self._source(value, site.node)
            if used and source is not None:
                found[place] = source
        return found

    def _source(self, value: Value, reader: Node) -> Node | None:
        """The constant or handle that `value` is, if a body may have its own."""
        held = known_tensor(value)
        if held is not None:
            node = value.node
            while node.op != "tf.Const":
                node = node.input(0).node
            alone = value.node is node and value.use_count == 1 and not value.is_output
            return node if held.stored_bytes <= SHARED or alone else None
        node = value.node
        if node.op == "tf.VarHandleOp" and self.options.variables and not value.is_input:
            return node if variable_name(node) is not None and not node.control_inputs else None
        return None

    def _unused_results(self, site: Site) -> tuple[int, ...]:
        outputs = site.node.outputs
        unused = tuple(place for place, value in enumerate(outputs) if not value.use_count and not value.is_output)
        if site.is_loop:
            return ()  # a result goes with its variable
        last = max((place for place, value in enumerate(outputs) if value.is_output), default=-1)
        return tuple(place for place in unused if place > last)  # names of outputs count places

    def _unused_arguments(self, site: Site, known: Known, results: Sequence[int]) -> tuple[int, ...]:
        """Arguments that no function needs, once those `known` are and the `results` are no more."""
        if site.is_loop:
            return self._unused_variables(site, known)
        needed: dict[int, None] = {}
        for function in site.functions:
            kept = [value for place, value in enumerate(function.outputs) if place not in results]
            needed.update(dict.fromkeys(_needed_arguments(function, kept)))
        return tuple(p for p in range(len(site.operands)) if p in known or p not in needed)

    @staticmethod
    def _unused_variables(site: Site, known: Known) -> tuple[int, ...]:
        """Variables of a loop that are known, or that no result which is used and no condition depends on."""
        condition, body = site.functions
        outputs = site.node.outputs
        needed = dict.fromkeys(place for place, value in enumerate(outputs) if value.use_count or value.is_output)
        needed.update(dict.fromkeys(_needed_arguments(condition, condition.outputs)))
        needed.update(dict.fromkeys(_needed_arguments(body, ())))
        pending = list(needed)
        while pending:
            for place in _needed_arguments(body, [body.outputs[pending.pop()]], effects=False):
                if place not in needed:
                    needed[place] = None
                    pending.append(place)
        gone = [p for p in range(len(outputs)) if p not in needed or (p in known and not outputs[p].use_count)]
        last = max((place for place, value in enumerate(outputs) if value.is_output), default=-1)
        gone = [place for place in gone if place > last]
        return tuple(gone) if len(gone) < len(outputs) else tuple(gone[1:])

    # Bodies ---------------------------------------------------------------------------------------------------

    def _specialised(
        self, site: Site, place: int, known: Known, arguments: Sequence[int], results: Iterable[int]
    ) -> Function:
        """The function at `place`, or a clone of it, with what is known inside."""
        function = site.functions[place]
        dropped = (*results, *(arguments if site.is_loop and place == 1 else ()))
        inside = tuple((number, _fingerprint(node)) for number, node in known.items())
        key = (function.name, site.is_loop, inside, tuple(arguments), dropped)
        clone = self._clones.get(key)
        if clone is None and self.counts.get(function.name, 0) == 1 and function.gradient is None:
            self._change(function, known, arguments, dropped, site.is_loop)
            return function
        self.counts[function.name] = self.counts.get(function.name, 1) - 1
        if clone is None:
            clone = self._clones[key] = clone_function(function, self.model)
            for node in clone:
                for name in callees(node):
                    self.counts[name] = self.counts.get(name, 0) + 1
            self._change(clone, known, arguments, dropped, site.is_loop)
        self.counts[clone.name] = self.counts.get(clone.name, 0) + 1
        return clone

    @staticmethod
    def _change(
        function: Function, known: Known, arguments: Sequence[int], results: Sequence[int], is_loop: bool
    ) -> None:
        for place, node in known.items():
            argument = function.inputs[place]
            if argument.use_count or argument.is_output:
                inner = _copy_into(function, node, argument)
                argument.replace_all_uses_with(inner)
                if not is_loop:  # a variable that stays is passed on as it is
                    function.outputs = [inner if value is argument else value for value in function.outputs]
        if results:
            remove_results(function, results)
        strip_body(function)
        if arguments:
            remove_arguments(function, arguments)


def _fingerprint(node: Node) -> tuple[Any, ...]:
    """What two nodes have in common that are the same constant or handle."""
    held = known_tensor(node.output)
    if held is None:
        return ("variable", variable_name(node))
    return held.fingerprint() if held.stored_bytes <= SHARED else ("tensor", id(held))


def _copy_into(function: Function, node: Node, argument: Value) -> Value:
    """A constant or handle of the body that is what `node` is."""
    attrs = dict(node.attrs)
    if node.op == "tf.VarHandleOp" and not attrs.get("shared_name"):
        attrs["shared_name"] = node.name.encode()
    first = next(iter(function))
    held = known_tensor(node.output)
    copy = function.create_node(
        node.op, (), attrs, name=f"{argument.node.name}/known", before=first, device=node.device,
        types=(node.output.type if held is None else constant_type(held),), origins=node.source_names,
    )  # fmt: skip
    return copy.output


def _is_needed(argument: Value) -> bool:
    return bool(argument.use_count)


def _needed_arguments(function: Function, values: Iterable[Value], effects: bool = True) -> list[int]:
    """Places of the arguments that `values` and, unless told otherwise, the effects of the body depend on."""
    roots = [value.node for value in values]
    if effects:
        roots += [node for node in function if node.op != ARGUMENT and not is_removable(node)]
        roots += function.targets
    found = reachable(roots)
    return [place for place, value in enumerate(function.inputs) if value.node in found]
