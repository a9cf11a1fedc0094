"""Scales of activations: which tensors share one, which have one prescribed, and what the others' ranges give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from graphopt.ir.known import known_array
from graphopt.ir.types import FLOAT32, INT8, Quantization
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.kernels import COMPARISONS, KERNELS, IntegerKernel
from graphopt.passes.quantize.parameters import Parameters, activation_parameters, fixed_parameters
from graphopt.passes.quantize.ranges import Range
from graphopt.passes.quantize.schemes import Scheme

CUTS = frozenset({"tfl.MAXIMUM", "tfl.MINIMUM"})
OWN_SCALE = 3.0  # times smaller than what it is put beside: a tensor that others read too keeps its own scale
SUMS = frozenset({"tfl.ADD", "tfl.SUB"})
SMALLEST = 2.0**-9  # of a sum's extent: XNNPACK leaves operands whose scale is less than 2**-10 of the result's
RangeOf = Callable[[Value, Scheme], Range | None]
Chosen = Mapping[Node, Scheme]
"""The nodes that compute with integers, and the scheme of their activations."""


class Slot(NamedTuple):
    """A tensor in a scheme: one that is int8 for some readers and int16 for others has two."""

    value: Value
    scheme: Scheme


class Scales:
    """Parameters of activations around the chosen nodes of one graph.

    `range_of` says what a tensor takes on; a constant's own contents say it otherwise. Where tensors must share a
    scale, it covers the ranges of all that some operator computes anew. A prescribed scale (softmax's output, say) is
    passed on by operators that only move elements, and elsewhere left behind by a requantization.
    """

    def __init__(self, chosen: Chosen, range_of: RangeOf):
        self._chosen, self._range_of = chosen, range_of
        self._parents: dict[Slot, Slot] = {}
        self._fixed: dict[Slot, Parameters] = {}
        self._limits: dict[Slot, Slot] = {}  # constants that cut off -> what is left of the tensor
        self._apart: set[tuple[Node, Slot]] = set()  # operands that keep a scale of their own
        self._entering: dict[Slot, dict[Slot, None]] = {}  # prescribed slots read by the nodes of a group
        self._groups: dict[Slot, list[Slot]] = {}
        self._parameters: dict[Slot, Parameters | None] = {}
        self._gather()

    # What is asked --------------------------------------------------------------------------------------------

    def stored(self, value: Value) -> Parameters | None:
        """What a chosen node yields; None for a tensor of which no range is known."""
        slot = Slot(value, self._chosen[value.node])
        return self._fixed.get(slot) or self._of(slot)

    def wanted(self, node: Node, index: int) -> Parameters | None:
        """What a chosen node reads at `index`."""
        slot = Slot(node.input(index), self._chosen[node])
        if node.op in COMPARISONS:
            return self._compared(node)
        if (node, slot) in self._apart:
            return self.stored(node.output)
        fixed = self._fixed.get(slot)
        if fixed is None:
            return self._of(slot)
        if not kernel(node).same_scale:
            return fixed
        others = [item for item in self._members(node) if item not in self._fixed]
        return self._of(others[0]) if others else fixed

    def _compared(self, node: Node) -> Parameters | None:
        """One scale for both operands: that of the tensor that is no constant, or one that covers both tensors."""
        slots = dict.fromkeys(slot for slot in self._members(node) if known_array(slot.value) is None)
        found = [self._fixed.get(slot) or self._of(slot) for slot in slots]
        if len(found) < 2 or None in found:
            return found[0] if len(found) == 1 else None
        ends = [item for item in found if item is not None]
        low, high = min(float(item.minimum[0]) for item in ends), max(float(item.maximum[0]) for item in ends)
        return activation_parameters(low, high, self._chosen[node])

    # Groups ---------------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        for node, scheme in self._chosen.items():
            for value in node.outputs:
                prescribed = kernel(node).fixed.get(scheme.dtype)
                if prescribed is not None and value.dtype is FLOAT32:
                    self._fixed[Slot(value, scheme)] = _prescribed(prescribed, scheme)
        for node in self._chosen:
            if not kernel(node).same_scale:
                continue
            members = self._members(node)
            if node.op in CUTS:
                result = Slot(node.output, self._chosen[node])
                self._limits.update((slot, result) for slot in members if _only_cuts(slot.value))
            if len(members) - len(node.outputs) > 1:
                self._apart.update((node, slot) for slot in members if self._loses(node, slot))
            free = [slot for slot in members if slot not in self._fixed and (node, slot) not in self._apart]
            for slot in free[1:]:
                self._unite(free[0], slot)
        for node in self._chosen:
            members = self._members(node)
            for slot in members:
                if slot not in self._fixed:
                    self._groups.setdefault(self._root(slot), []).append(slot)
            if kernel(node).same_scale:
                free = [slot for slot in members if slot not in self._fixed and (node, slot) not in self._apart]
                for slot in members if free else ():
                    if slot in self._fixed:
                        self._entering.setdefault(self._root(free[0]), {})[slot] = None

    def _loses(self, node: Node, slot: Slot) -> bool:
        """An operand that others read too is much smaller than what it is put beside, as in a concatenation."""
        value, scheme = slot
        if slot in self._fixed or value is node.output or len(value.users) < 2 or known_array(value) is not None:
            return False
        own, shared = self._range(slot), self._range(Slot(node.output, scheme))
        if own is None or shared is None:
            return False
        return _extent(own) * OWN_SCALE < _extent(shared)

    def _members(self, node: Node) -> list[Slot]:
        scheme = self._chosen[node]
        values = [node.input(index) for index in activations(node)]
        values += [value for value in node.outputs if value.dtype is FLOAT32]
        return [Slot(value, scheme) for value in values]

    def _root(self, slot: Slot) -> Slot:
        path = []
        while (parent := self._parents.get(slot, slot)) != slot:
            path.append(slot)
            slot = parent
        for item in path:
            self._parents[item] = slot
        return slot

    def _unite(self, first: Slot, second: Slot) -> None:
        first, second = self._root(first), self._root(second)
        if first != second:
            self._parents[second] = first

    # Parameters -----------------------------------------------------------------------------------------------

    def _of(self, slot: Slot) -> Parameters | None:
        root = self._root(slot)
        if root not in self._parameters:
            self._parameters[root] = self._decide(root)
        return self._parameters[root]

    def _decide(self, root: Slot) -> Parameters | None:
        members = list(dict.fromkeys(self._groups.get(root, [root])))
        entering = self._entering.get(root, {})
        anew = [slot for slot in members if not self._is_moved(slot)]
        prescribed = {self._fixed[slot].quantization for slot in entering}
        if not anew and len(prescribed) == 1:
            return self._fixed[next(iter(entering))]
        ranges = [self._range(self._limits.get(slot, slot)) for slot in (*anew, *entering) or members]
        if not ranges or any(item is None for item in ranges):
            return None
        low = min(item.minimum for item in ranges if item is not None)
        high = max(item.maximum for item in ranges if item is not None)
        needed = max(map(self._least, members), default=0.0)
        if 0 < (extent := max(high, 0.0) - min(low, 0.0)) < needed:
            low, high = low * needed / extent, high * needed / extent
        return activation_parameters(low, high, root.scheme)

    def _least(self, slot: Slot) -> float:
        """The least extent with which kernels add the tensor to what it is added to; nothing is lost by it."""
        found = 0.0
        for node in slot.value.users if slot.scheme.dtype is INT8 else ():
            if node.op in SUMS and self._chosen.get(node) == slot.scheme:
                total = self._range(Slot(node.output, slot.scheme))
                found = max(found, 0.0 if total is None else _extent(total) * SMALLEST)
        return found

    def _is_moved(self, slot: Slot) -> bool:
        """A chosen node yields it out of tensors of the same scale."""
        node = slot.value.node
        return self._chosen.get(node) == slot.scheme and kernel(node).same_scale

    def _range(self, slot: Slot) -> Range | None:
        return range_in(slot, self._range_of)


def _only_cuts(value: Value) -> bool:
    """A constant that some operator of `CUTS` alone reads: beyond the range of what it cuts off it does nothing."""
    return len(value.users) == 1 and known_array(value) is not None


def range_in(slot: Slot, range_of: RangeOf) -> Range | None:
    """What a tensor takes on, by its own contents where it is a constant; None where that is not known."""
    array = known_array(slot.value)
    if array is None:
        return range_of(slot.value, slot.scheme)
    finite = array[np.isfinite(array)]
    return Range(float(finite.min()), float(finite.max())) if finite.size else Range(0.0, 0.0)


def kernel(node: Node) -> IntegerKernel:
    """How the operator of a chosen node computes with integers."""
    return KERNELS[node.op]


def activations(node: Node) -> Iterable[int]:
    """Inputs of a node that hold activations: floats that are neither weights nor bias."""
    scheme = KERNELS[node.op]
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype is not FLOAT32 or index == scheme.bias:
            continue
        if scheme.activations is not None and index not in scheme.activations:
            if index not in scheme.weights or known_array(value) is not None:
                continue
        elif index in scheme.weights and known_array(value) is not None:
            continue
        yield index


def _extent(found: Range) -> float:
    return max(found.maximum, 0.0) - min(found.minimum, 0.0)


def _prescribed(quantization: Quantization, scheme: Scheme) -> Parameters:
    return fixed_parameters(quantization.scale[0], quantization.zero_point[0], scheme)
