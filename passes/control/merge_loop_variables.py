"""merge-loop-variables: variables of a loop that are always the same become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphopt.ir.known import known_tensor
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.cleanup.merge_duplicates import value_key
from graphopt.passes.control.call_sites import Site
from graphopt.passes.control.plain_variables import Loops

_NEVER = Trait.STATEFUL | Trait.RANDOM | Trait.CONTROL_FLOW | Trait.SOURCE
_SMALL = 4096  # bytes of initial values that are compared by content

Classes = list[int]  # of each variable


@dataclass(frozen=True)
class MergeLoopVariables(Pass):
    """Let variables of a `While` that start alike and go on alike be one.

    *Given*

        function @cond(%i: int32, %j: int32, %n: int32) -> (%go) { %go = tf.Less(%j, %n) }
        function @body(%i: int32, %j: int32, %n: int32) -> (%i2, %j2, %n) {
          %one = tf.Const() {value = int32[] 1}
          %i2 = tf.AddV2(%i, %one)
          %j2 = tf.AddV2(%j, %one)
        }
        %loop = tf.StatelessWhile(%zero, %zero, %x) {cond = @cond, body = @body}

    *Result*

        function @cond(%i: int32, %j: int32, %n: int32) -> (%go) { %go = tf.Less(%i, %n) }

    and what read `%loop:1` reads `%loop`, so that nothing needs `%j` any more (`specialise-functions` takes it away).
    Keras' recurrent layers, for one, count their steps twice.

    Refuses loops whose functions others run too, and variables that what has effects or is random goes into.
    """

    def run(self, model: Model, context: PassContext) -> None:
        """Merge in every loop that has its functions for itself."""
        for node, site in Loops(model).by_node.items():
            classes = _classes(site)
            firsts: dict[int, int] = {}
            for place, number in enumerate(classes):
                first = firsts.setdefault(number, place)
                if first != place and _is_read(site, place) and context.allows(self.name):
                    _merge(site, first, place)
                    context.rewrote(self.name, removed=(node,), added=(node,))


def _is_read(site: Site, place: int) -> bool:
    """Something reads the variable other than to compute what it is next."""
    loop = site.node
    if loop.outputs[place].use_count:
        return True
    condition, body = site.functions
    return bool(condition.inputs[place].use_count or body.inputs[place].use_count)


def _merge(site: Site, first: int, place: int) -> None:
    """Let everything read the variable at `first` instead of that at `place`."""
    for function in site.functions:
        function.inputs[place].replace_all_uses_with(function.inputs[first])
    site.node.outputs[place].replace_all_uses_with(site.node.outputs[first])


def _classes(site: Site) -> Classes:
    """A number for each variable, the same for those that are the same before and after every iteration."""
    keys = [_start(value) for value in site.operands]
    types = [value.type for value in site.functions[1].inputs]
    classes = _numbered([(key, str(type)) for key, type in zip(keys, types, strict=True)])
    while len(dict.fromkeys(classes)) < len(classes):
        results = _results(site.functions[1], classes)
        refined = _numbered(list(zip(classes, results, strict=True)))
        if refined == classes:
            return classes
        classes = refined
    return classes


def _numbered(keys: list[Any]) -> Classes:
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _start(value: Value) -> Any:
    held = known_tensor(value)
    if held is not None and held.nbytes <= _SMALL:
        return value_key(held)
    return id(value)


def _results(body: Function, classes: Classes) -> list[Any]:
    """What each result is, as a number, where arguments of one class count as the same."""
    numbers: dict[Any, int] = {}
    found: dict[Node, int] = {}
    for place, value in enumerate(body.inputs):
        found[value.node] = numbers.setdefault(("argument", classes[place]), len(numbers))
    for node in body.topological_order():
        if node not in found:
            found[node] = numbers.setdefault(_key(node, found), len(numbers))
    return [(found[value.node], value.index) for value in body.outputs]


def _key(node: Node, found: dict[Node, int]) -> Any:
    if node.op == ARGUMENT or traits_of(node.op) & _NEVER or node._control_inputs:
        return id(node)
    attrs = tuple((key, value_key(value)) for key, value in sorted(node.attrs.items()) if not key.startswith("_"))
    inputs = tuple(None if value is None else (found[value.node], value.index) for value in node._inputs)
    return node.op, attrs, inputs
