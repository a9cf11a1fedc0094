"""What holds of a model at a stage of its way: specifications as data, which passes require and ensure by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.ops.registry import attributes, traits_of
from graphopt.ir.ops.traits import Trait, trait_names
from graphopt.ir.traversal import BACK_EDGE_SOURCES
from graphopt.ir.value import Node

LIMIT = 20
INTERNAL = ("tf._Arg", "tf._Retval")  # internal to TensorFlow by name, yet in every function body


@dataclass(frozen=True)
class Specification:
    """What a stage allows and forbids. A model meets it when `check` finds nothing.

    `forbidden_attributes` maps an operator to attribute values (defaults included) that it must not have;
    `forbidden_prefixes` are starts of operator names; `includes` are specifications that must hold too.
    """

    name: str
    summary: str
    includes: tuple[str, ...] = ()
    dialects: frozenset[str] | None = None
    forbidden_operators: frozenset[str] = frozenset()
    forbidden_prefixes: tuple[str, ...] = ()
    forbidden_traits: Trait = Trait.NONE
    forbidden_attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    functions: bool = True  # a function library is allowed
    typed: bool = False  # every value has a dtype
    ranked: bool = False  # every value of a dense type has a known rank
    sorted: bool = False  # producers stand before consumers


def _operators(names: str) -> frozenset[str]:
    return frozenset(f"tf.{name}" for name in names.split())


VARIABLES = _operators("""
    Variable VariableV2 VarHandleOp VarIsInitializedOp ReadVariableOp _ReadVariablesOp ResourceGather ResourceGatherNd
    Assign AssignAdd AssignSub AssignVariableOp AssignAddVariableOp AssignSubVariableOp
    TemporaryVariable DestroyTemporaryVariable IsVariableInitialized VariableShape DestroyResourceOp
""")
TABLES = _operators("""
    HashTable HashTableV2 AnonymousHashTable MutableHashTable MutableHashTableV2 MutableHashTableOfTensors
    MutableHashTableOfTensorsV2 MutableDenseHashTable MutableDenseHashTableV2 LookupTableFind LookupTableFindV2
    LookupTableSize LookupTableSizeV2 LookupTableImport LookupTableImportV2 LookupTableInsert LookupTableInsertV2
    InitializeTable InitializeTableV2 InitializeTableFromTextFile InitializeTableFromTextFileV2
""")
_TRAINING_NORMS: Mapping[str, Mapping[str, Any]] = {
    name: {"is_training": True} for name in ("tf.FusedBatchNorm", "tf.FusedBatchNormV2", "tf.FusedBatchNormV3")
}

IMPORTED = Specification("imported", "any model that a reader accepts", dialects=frozenset({"tf", "tfl"}))
FROZEN = Specification("frozen", "no variables: every weight is a constant", forbidden_operators=VARIABLES)
TABLE_FREE = Specification("table-free", "no lookup tables", forbidden_operators=TABLES)
TF_INFERENCE = Specification(
    "tf-inference",
    "TensorFlow's operators, none of which trains",
    dialects=frozenset({"tf"}),
    forbidden_traits=Trait.TRAINING,
    forbidden_attributes=_TRAINING_NORMS,
)
PORTABLE = Specification(
    "portable", "no operator that only one runtime's own optimiser makes", forbidden_prefixes=("tf._",)
)
INLINED = Specification("inlined", "no function is called", forbidden_traits=Trait.CALL, functions=False)
FUNCTIONAL = Specification(
    "functional", "control flow by functions, none by dead values", forbidden_traits=Trait.CONTROL_FLOW
)
TYPED = Specification("typed", "every value has a dtype", typed=True)
RANKED = Specification("ranked", "every value has a known rank", includes=("typed",), ranked=True)
SORTED = Specification("sorted", "producers stand before consumers", sorted=True)

SPECIFICATIONS: Mapping[str, Specification] = {
    specification.name: specification
    for specification in (
        IMPORTED, FROZEN, TABLE_FREE, TF_INFERENCE, PORTABLE, INLINED, FUNCTIONAL, TYPED, RANKED, SORTED,
    )
}  # fmt: skip


def specification(name: str) -> Specification:
    """The specification called `name`. Raises `UsageError` if there is none."""
    found = SPECIFICATIONS.get(name)
    if found is None:
        known = ", ".join(SPECIFICATIONS)
        raise UsageError(f"there is no specification '{printable(name)}'; there are {known}")
    return found


def check(model: Model, wanted: Specification | str, limit: int = LIMIT) -> list[str]:
    """Why `model` does not meet a specification: at most `limit` sentences, each with its node; empty if it does."""
    pending = [specification(wanted) if isinstance(wanted, str) else wanted]
    checked: dict[str, None] = {}
    found: list[str] = []
    while pending:
        current = pending.pop()
        if current.name in checked:
            continue
        checked[current.name] = None
        pending += [specification(name) for name in reversed(current.includes)]
        for problem in _problems(model, current):
            found.append(problem)
            if len(found) >= limit:
                return found
    return found


def _problems(model: Model, wanted: Specification) -> Iterator[str]:
    if model.functions and not wanted.functions:
        name = printable(next(iter(model.functions)))
        yield f"the model has a function '{name}', which '{wanted.name}' does not allow"
    verdicts: dict[str, str] = {}
    for graph in model.graphs:
        for node in graph:
            verdict = verdicts.get(node.op)
            if verdict is None:
                verdict = verdicts[node.op] = _operator_problem(node.op, wanted)
            if verdict:
                yield _about(node, verdict, wanted)
            for name, value in wanted.forbidden_attributes.get(node.op, {}).items():
                if attributes(node).get(name) == value:
                    yield _about(node, f"has {name} = {value}", wanted)
            if wanted.typed or wanted.ranked:
                yield from _type_problems(node, wanted)
        if wanted.sorted:
            yield from _order_problems(graph, wanted)


def _about(node: Node, problem: str, wanted: Specification) -> str:
    return f"node '{printable(node.name)}' ({printable(node.op)}) {problem}, which '{wanted.name}' does not allow"


def _operator_problem(op: str, wanted: Specification) -> str:
    if wanted.dialects is not None and op.partition(".")[0] not in wanted.dialects:
        return "is of another dialect"
    if op in wanted.forbidden_operators:
        return "is an operator"
    if op.startswith(wanted.forbidden_prefixes) and wanted.forbidden_prefixes and op not in INTERNAL:
        return "is an operator"
    clash = traits_of(op) & wanted.forbidden_traits
    if clash:
        names = ", ".join(trait_names(clash))
        return f"is an operator of the kind {names}"
    return ""


def _type_problems(node: Node, wanted: Specification) -> Iterator[str]:
    for value in node.outputs:
        if not value.dtype.code:
            yield _about(node, f"has an output {value.index} without a dtype", wanted)
        elif wanted.ranked and not value.dtype.is_handle and value.shape.dims is None:
            yield _about(node, f"has an output {value.index} without a known rank", wanted)


def _order_problems(graph: Graph, wanted: Specification) -> Iterator[str]:
    seen: set[Node] = set()
    for node in graph:
        for producer in node.predecessors():
            if producer not in seen and producer.op not in BACK_EDGE_SOURCES:
                yield _about(node, f"stands before '{printable(producer.name)}'", wanted)
        seen.add(node)
