"""v1 conditionals as functional ones: what lies between `Switch` and `Merge` becomes two branches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import PASS_THROUGH
from graphopt.ir.model import Function, Model
from graphopt.ir.traversal import forward_predecessors
from graphopt.ir.types import BOOL
from graphopt.ir.value import Node, Value
from graphopt.passes.base import PassContext
from graphopt.passes.control.bodies import FIRST_REFERENCE, BodyBuilder, backward, unfit
from graphopt.passes.control.loop_frames import (
    ENTERS,
    EXITS,
    LOOP_CONDITION,
    MERGES,
    NEXT_ITERATIONS,
    SWITCHES,
    Path,
    frame_paths,
)
from graphopt.passes.removal import is_removable

Role = tuple[Node, bool]  # a node, and whether it stands around a conditional (Switch, Merge) or inside


class Place:
    """Where a node runs: in a frame, within branches of predicates, the innermost last. Places are unique."""

    __slots__ = ("children", "depth", "parent", "predicate", "side")

    def __init__(self, parent: Place | None, predicate: Value | None, side: int):
        self.parent, self.predicate, self.side = parent, predicate, side
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: dict[tuple[Value, int], Place] = {}

    def within(self, predicate: Value, side: int) -> Place:
        """The branch `side` of `predicate` within this place; the place itself if it is that already."""
        if self.predicate is predicate and self.side == side:
            return self
        found = self.children.get((predicate, side))
        if found is None:
            found = self.children[predicate, side] = Place(self, predicate, side)
        return found

    def covers(self, other: Place) -> bool:
        """What runs in `other` runs within this place."""
        place: Place | None = other
        while place is not None and place.depth > self.depth:
            place = place.parent
        return place is self


def raise_branches(graph: Graph, model: Model, rule: str, context: PassContext) -> tuple[int, dict[Node, str]]:
    """Raise every conditional that contains no other; returns how many, and why others had to stay."""
    places = _Places(graph)
    done, refused = 0, dict(places.irregular)
    for group in places.groups():
        found = _Conditional(graph, model, places, group)
        reason = found.refusal()
        if reason is not None:
            refused[found.merges[0]] = reason
            continue
        if not context.allows(rule):
            break
        removed = tuple(found.nodes())
        context.rewrote(rule, removed=removed, added=(found.emit(),))
        done += 1
    return done, refused


class _Places:
    """The place of every node, and for each `Merge` the two places it joins."""

    def __init__(self, graph: Graph):
        self.of: dict[Node, Place | None] = {}
        self.joined: dict[Node, tuple[int, ...]] = {}  # Merge -> side of each input
        self.joins: dict[Node, Place] = {}  # Merge -> a place of one of its branches
        self.irregular: dict[Node, str] = {}
        self.order: dict[Node, int] = {}
        self._roots: dict[Path, Place] = {}
        self._entered: dict[Path, Place | None] = {}
        paths = frame_paths(graph)
        for number, (node, path) in enumerate(paths.items()):
            self.order[node] = number
            self.of[node] = self._place(node, path, paths)

    def _place(self, node: Node, path: Path, paths: dict[Node, Path]) -> Place | None:
        root = self._roots.setdefault(path, Place(None, None, 0))
        if node.op in ENTERS:
            outer = self._union(node, self._roots.setdefault(path[:-1], Place(None, None, 0)))
            known = self._entered.setdefault(path, outer)
            if known is not None and outer is not None and known.covers(outer):
                self._entered[path] = outer
            return root
        if node.op in EXITS:
            inner = next((paths[v.node] for v in node._inputs if v is not None), path)
            return self._entered.get(inner, root)
        if node.op in MERGES:
            if any(v is not None and v.node.op in NEXT_ITERATIONS for v in node._inputs):
                return root
            return self._merge(node, root)
        return self._union(node, root)

    def value(self, value: Value) -> Place | None:
        """Where `value` is alive."""
        node = value.node
        place = self.of.get(node)
        if place is None or node.op not in SWITCHES or value.index > 1 or is_loop_switch(node):
            return place
        return place.within(predicate_of(node), value.index)

    def _union(self, node: Node, root: Place) -> Place | None:
        """The innermost of the places that `node` reads from and waits for; None where they exclude each other."""
        place = root
        for other in self._sources(node):
            if other is None:
                return None
            if other.depth > place.depth and place.covers(other):
                place = other
            elif not other.covers(place):
                return None
        return place

    def _sources(self, node: Node) -> Iterator[Place | None]:
        for value in node._inputs:
            if value is not None and value.node.op not in NEXT_ITERATIONS:
                yield self.value(value)
        for control in node.control_inputs:
            yield self.of.get(control)

    def _merge(self, node: Node, root: Place) -> Place | None:
        found = [self.value(value) for value in node.inputs if value is not None]
        if len(found) == 2:
            one, other = found
            if (
                one is not None and other is not None and one.parent is other.parent and one.parent is not None
                and one.predicate is other.predicate and one.side != other.side
            ):  # fmt: skip
                self.joined[node] = (one.side, other.side)
                self.joins[node] = one
                return one.parent
        self.irregular[node] = f"'{printable(node.name)}' does not join the two branches of one predicate"
        return None

    def groups(self) -> list[list[Role]]:
        """The nodes of each conditional: those inside of its branches, and the `Switch` and `Merge` nodes around."""
        sets = _Sets()
        for node, place in self.of.items():
            if node in self.joins:
                for value in node.inputs:
                    if value is not None:
                        sets.link((node, True), self._role(value))
                for control in node.control_inputs:
                    branch = self.of.get(control)
                    if branch is not None and branch.parent is place and branch.predicate is self.joins[node].predicate:
                        sets.link((node, True), (control, False))
            if place is not None and place.predicate is not None:
                self._link_up(node, place, sets)
        return [group for group in sets.groups() if any(around and node in self.joins for node, around in group)]

    def _role(self, value: Value) -> Role:
        """The producer of `value`: around the branch where the value is alive, or inside of it."""
        return value.node, value.node.op in SWITCHES and self.value(value) is not self.of[value.node]

    def _link_up(self, node: Node, place: Place, sets: _Sets) -> None:
        """Tie a node of a branch to what it reads in the same branch."""
        for value in node._inputs:
            if value is not None and self.value(value) is place:
                sets.link((node, False), self._role(value))
        for control in node.control_inputs:
            if self.of.get(control) is place:
                sets.link((node, False), (control, False))


class _Sets:
    """Disjoint sets of roles, in the order in which they were met."""

    def __init__(self) -> None:
        self._above: dict[Role, Role] = {}

    def _top(self, role: Role) -> Role:
        top = self._above.setdefault(role, role)
        while self._above[top] != top:
            top = self._above[top]
        while role != top:
            self._above[role], role = top, self._above[role]
        return top

    def link(self, one: Role, other: Role) -> None:
        """Put both into one set."""
        top, below = self._top(one), self._top(other)
        if top != below:
            self._above[below] = top

    def groups(self) -> list[list[Role]]:
        """The sets."""
        found: dict[Role, list[Role]] = {}
        for role in list(self._above):
            found.setdefault(self._top(role), []).append(role)
        return list(found.values())


def is_loop_switch(switch: Node) -> bool:
    """The `Switch` asks for another iteration, not for a branch."""
    return len(switch._inputs) > 1 and switch.input(1).node.op == LOOP_CONDITION


def predicate_of(switch: Node) -> Value:
    """What the `Switch` decides by, without identities."""
    value = switch.input(1)
    while value.node.op in PASS_THROUGH and not value.is_input and not value.node.control_inputs:
        value = value.node.input(0)
    return value


class _Conditional:
    """One group of nodes as a conditional."""

    def __init__(self, graph: Graph, model: Model, places: _Places, group: Sequence[Role]):
        self.graph, self.model, self.places = graph, model, places
        roles = sorted(group, key=lambda role: places.order[role[0]])
        self.merges = [node for node, around in roles if around and node in places.joins]
        self.switches = [node for node, around in roles if around and node not in places.joins]
        self.inside = [node for node, around in roles if not around]
        self.group = dict.fromkeys(node for node, _ in roles)
        self.place = places.joins[self.merges[0]].parent
        self.predicate = places.joins[self.merges[0]].predicate
        self.sides: list[dict[Node, None]] = [{}, {}]

    def nodes(self) -> Iterable[Node]:
        """All nodes of the conditional."""
        return self.group

    def refusal(self) -> str | None:
        """Why the conditional must stay, or None; works out the branches."""
        if any(
            self.places.joins[m].parent is not self.place or self.places.joins[m].predicate is not self.predicate
            for m in self.merges
        ):
            return "branches of several predicates are entangled"
        if any(predicate_of(switch) is not self.predicate for switch in self.switches):
            return "branches of several predicates are entangled"
        for node in self.inside:
            if node in self.places.joins and node.op not in MERGES:  # raised a moment ago
                return f"'{printable(node.name)}' inside of it joins a conditional that has just been raised"
            place = self.places.of[node]
            if place is None or place.parent is not self.place or place.predicate is not self.predicate:
                return f"'{printable(node.name)}' inside of it belongs to another conditional"
        return unfit(self.inside, self.model) or self._edge_refusal() or self._split() or self._cycle()

    def _edge_refusal(self) -> str | None:
        for node in (*self.merges, *self.switches):
            if node.op.startswith("tf.Ref") or any(v.dtype.code >= FIRST_REFERENCE for v in node.outputs):
                return f"'{printable(node.name)}' passes on a reference to a variable"
        if self.predicate is None or self.predicate.dtype is not BOOL:
            return "its predicate is not of type bool"
        for node in (*self.inside, *self.switches):
            if any(value.is_output or value.is_input for value in node.outputs) or node in self.graph._targets:
                return f"'{printable(node.name)}' inside of it is an input, output or target of the graph"
            for value in node.outputs:
                for user in value.users:
                    if user not in self.group:
                        return f"'{printable(user.name)}' reads a branch that no Merge closes"
            for user in node.control_users:
                if user not in self.group and node not in self.switches:
                    return f"'{printable(user.name)}' waits for a branch that no Merge closes"
        for merge in self.merges:
            if len(merge.outputs) > 1 and merge.outputs[1].is_output and merge.outputs[0].is_input:
                return f"'{printable(merge.name)}' is an input of the graph"
        return None

    def _split(self) -> str | None:
        """Sort what the results need, and in functions what has effects, into the two branches."""
        boundary: dict[Node, object] = dict.fromkeys(self.switches)
        inside = dict.fromkeys(self.inside)
        roots: list[list[Node]] = [[], []]
        for merge in self.merges:
            for value, side in zip(merge.inputs, self.places.joined[merge], strict=True):
                if value is not None and value.node in inside:
                    roots[side].append(value.node)
            for control in merge.control_inputs:
                if control in inside:
                    roots[self._side(control)].append(control)
        if isinstance(self.graph, Function):
            for node in self.inside:
                if not is_removable(node):
                    roots[self._side(node)].append(node)
        for side in (0, 1):
            found = _within(roots[side], inside, boundary)
            wrong = next((node for node in found if self._side(node) != side), None)
            if wrong is not None:
                return f"'{printable(wrong.name)}' serves both branches"
            self.sides[side] = {node: None for node in self.inside if node in found}
        return None

    def _side(self, node: Node) -> int:
        place = self.places.of[node]
        return place.side if place is not None else 0

    def _cycle(self) -> str | None:
        """What goes into the branches must not depend on what comes out of them."""
        order = self.places.order
        needed = [value.node for value in self._operands()]
        needed += self._waits()
        last = max((order[node] for node in needed), default=-1)
        pending = [merge for merge in self.merges if order[merge] <= last]
        wanted, seen = dict.fromkeys(needed), dict.fromkeys(pending)
        while pending:
            node = pending.pop()
            if node in wanted:
                return f"'{printable(node.name)}' comes from one of its results and goes into a branch"
            for user in node.successors():
                if user not in seen and order[user] <= last and node.op not in NEXT_ITERATIONS:
                    seen[user] = None
                    pending.append(user)
        return None

    def _operands(self) -> dict[Value, list[Value]]:
        """Values from outside -> what stands for them inside."""
        operands: dict[Value, list[Value]] = {}
        inside = dict.fromkeys((*self.sides[0], *self.sides[1]))
        for node in inside:
            for value in node.inputs:
                if value is not None and value.node not in inside:
                    self._note(value, operands)
        for merge in self.merges:
            for value in merge.inputs:
                if value is not None and value.node not in inside:
                    self._note(value, operands)
        return operands

    def _note(self, value: Value, operands: dict[Value, list[Value]]) -> None:
        outside = value.node.input(0) if value.node in self.switches else value
        stands = operands.setdefault(outside, [])
        if value not in stands:
            stands.append(value)

    def _waits(self) -> list[Node]:
        """What the conditional has to wait for."""
        waits: dict[Node, None] = {}
        for node in (*self.sides[0], *self.sides[1], *self.switches):
            waits.update((control, None) for control in node.control_inputs if control not in self.group)
        return list(waits)

    # Making ---------------------------------------------------------------------------------------------------

    def emit(self) -> Node:
        """Put the functional conditional in place."""
        first, model = self.merges[0], self.model
        name = first.name.rpartition("/")[0] or f"{first.name}/if"
        operands = self._operands()
        indexed = [merge for merge in self.merges if len(merge.outputs) > 1 and _is_used(merge.outputs[1])]
        functions, is_stateful = [], False
        for side, label in ((1, "true"), (0, "false")):
            builder = BodyBuilder(model, f"{name}_{label}")
            for value, stands in operands.items():
                argument = builder.argument(value.type, value.node.name.rpartition("/")[2])
                for inner in stands:
                    builder.stand_for(inner, argument)
            builder.copy(self.sides[side])
            results = [builder.value(m.input(self.places.joined[m].index(side))) for m in self.merges]
            results += [builder.constant(self.places.joined[m].index(side), "value_index") for m in indexed]
            effects = [node for node in self.sides[side] if not is_removable(node)]
            functions.append(builder.finish(model, results, effects))
            is_stateful = is_stateful or builder.is_stateful
        made = self._make(name, list(operands), functions, indexed, is_stateful)
        self._replace(made, indexed)
        return made

    def _make(
        self, name: str, operands: Sequence[Value], functions: Sequence[Function], indexed: Sequence[Node],
        is_stateful: bool,
    ) -> Node:  # fmt: skip
        assert self.predicate is not None
        types = [merge.outputs[0].type for merge in self.merges] + [merge.outputs[1].type for merge in indexed]
        attrs = {
            "Tcond": BOOL, "Tin": tuple(value.dtype for value in operands), "Tout": tuple(t.dtype for t in types),
            "then_branch": FunctionRef(functions[0].name), "else_branch": FunctionRef(functions[1].name),
            "output_shapes": tuple(type.shape for type in types),
        }  # fmt: skip
        first = self.merges[0]
        return self.graph.create_node(
            "tf.If" if is_stateful else "tf.StatelessIf", [self.predicate, *operands], attrs, name=name, types=types,
            before=first, control_inputs=self._waits(), device=first.device,
            origins=tuple(dict.fromkeys(origin for node in self.merges for origin in node.source_names)),
        )  # fmt: skip

    def _replace(self, made: Node, indexed: Sequence[Node]) -> None:
        doomed = [*self.inside, *self.switches]
        gone = dict.fromkeys(doomed)
        for place, merge in enumerate(self.merges):
            values = [made.outputs[place]]
            if merge in indexed:
                values.append(made.outputs[len(self.merges) + indexed.index(merge)])
            merge.origins = merge.source_names
            dtypes = tuple(value.dtype for value in values)
            merge.op, merge.extras = ("tf.Identity" if len(values) == 1 else "tf.IdentityN"), None
            merge.attrs = {"T": dtypes[0] if len(values) == 1 else dtypes, **_underscored(merge)}
            merge.set_inputs(values)
            merge.set_control_inputs(control for control in merge.control_inputs if control not in gone)
            del merge.outputs[len(values) :]
        for switch in self.switches:
            for user in switch.control_users:
                user.remove_control_input(switch)
                if user not in gone and switch.input(0).node is not user:
                    user.add_control_input(switch.input(0).node)
        self.graph.remove_all(doomed)


def _underscored(node: Node) -> dict[str, object]:
    return {key: value for key, value in node.attrs.items() if key[:1] == "_"}


def _is_used(value: Value) -> bool:
    return bool(value.use_count) or value.is_output


def _within(roots: Iterable[Node], inside: dict[Node, None], boundary: dict[Node, object]) -> dict[Node, None]:
    """What `roots` need of the nodes `inside`."""
    outside: dict[Node, object] = dict(boundary)
    roots = list(roots)
    for node in inside:
        outside.update((producer, None) for producer in forward_predecessors(node) if producer not in inside)
    return backward(roots, outside)
