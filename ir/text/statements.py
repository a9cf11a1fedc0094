"""Parses graphs, functions and signatures into plain statements, whose names nobody has looked up yet."""

from __future__ import annotations

from typing import Any, NamedTuple

from graphopt.ir.errors import printable
from graphopt.ir.text.attributes import parse_attributes, parse_type
from graphopt.ir.text.lexer import Lexer
from graphopt.ir.types import TensorType

OUTPUT_LIMIT = 1 << 16


class Reference(NamedTuple):
    """A value or a node by name, and where the text says so."""

    name: str
    place: int
    start: int


class Parameter(NamedTuple):
    """An input or an output in a header."""

    label: str | None
    value: Reference
    type: TensorType | None


class Statement:
    """One node as written; `types` is None in the short form."""

    __slots__ = ("after", "attrs", "device", "name", "op", "operands", "origins", "start", "tensor_names", "types")

    def __init__(self, name: str, op: str, start: int):
        self.name, self.op, self.start = name, op, start
        self.operands: list[Reference | None] = []
        self.attrs: dict[str, Any] = {}
        self.after: list[Reference] = []
        self.device = ""
        self.origins: tuple[str, ...] = ()
        self.types: list[TensorType] | None = None
        self.tensor_names: list[str | None] = []


class GraphText:
    """One graph or function as written."""

    __slots__ = (
        "attrs",
        "control_outputs",
        "gradient",
        "is_function",
        "name",
        "parameters",
        "results",
        "start",
        "statements",
        "targets",
    )

    def __init__(self, name: str, is_function: bool, start: int):
        self.name, self.is_function, self.start = name, is_function, start
        self.parameters: list[Parameter] = []
        self.results: list[Parameter] = []
        self.targets: list[Reference] | None = None
        self.control_outputs: dict[str, Reference] = {}
        self.attrs: dict[str, Any] = {}
        self.gradient: str | None = None
        self.statements: dict[str, Statement] = {}


class SignatureText:
    """One signature as written; a place is a value or a position."""

    __slots__ = ("defaults", "graph", "inferred", "inputs", "method_name", "name", "outputs", "reasons", "start")

    def __init__(self, name: str, start: int):
        self.name, self.start = name, start
        self.graph: str | None = None
        self.inputs: dict[str, Reference | int] = {}
        self.outputs: dict[str, Reference | int] = {}
        self.method_name = ""
        self.inferred = False
        self.defaults: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}


def comma_separated(lexer: Lexer, take: Any) -> list[Any]:
    """What `take` takes, in parentheses and separated by commas."""
    items: list[Any] = []
    lexer.take("(")
    while not lexer.accept(")"):
        if items:
            lexer.take(",")
        items.append(take())
        if not (lexer.at(",") or lexer.at(")")):
            lexer.fail("',' or ')'")
    return items


def _reference(lexer: Lexer) -> Reference:
    start, name = lexer.start, lexer.take_ref("%", "a value")
    index = lexer.take_int("an output's number", 0, OUTPUT_LIMIT) if lexer.accept(":") else 0
    return Reference(name, index, start)


def _node_reference(lexer: Lexer) -> Reference:
    start = lexer.start
    return Reference(lexer.take_ref("%", "a node"), 0, start)


# Graphs -------------------------------------------------------------------------------------------------------


def parse_graph_text(lexer: Lexer) -> GraphText:
    """A graph or a function, from its keyword on."""
    start, is_function = lexer.start, lexer.at("function")
    if not lexer.accept("function") and not lexer.accept("graph"):
        lexer.fail("'graph' or 'function'")
    graph = GraphText(lexer.take_ref("@", "the graph's name"), is_function, start)
    graph.parameters = comma_separated(lexer, lambda: _parameter(lexer, is_function, True))
    lexer.take("->")
    graph.results = comma_separated(lexer, lambda: _parameter(lexer, is_function, False))
    while not lexer.accept("{"):
        _parse_clause(lexer, graph)
    while not lexer.accept("}"):
        statement = _parse_statement(lexer)
        if statement.name in graph.statements:
            lexer.error(f"node '{printable(statement.name)}' is defined twice", statement.start)
        graph.statements[statement.name] = statement
    return graph


def _parameter(lexer: Lexer, labelled: bool, typed: bool) -> Parameter:
    label = None
    if labelled and lexer.kind in ("word", "string"):
        label = lexer.take_word("a name")
        lexer.take("=")
    value_start, name, index = lexer.start, lexer.take_ref("%", "a value"), 0
    type = None
    if lexer.accept(":"):  # an output's number, or already the type
        if lexer.kind == "number":
            index = lexer.take_int("an output's number", 0, OUTPUT_LIMIT)
            type = parse_type(lexer) if typed and lexer.accept(":") else None
        elif typed:
            type = parse_type(lexer)
        else:
            lexer.fail("an output's number")
    return Parameter(label, Reference(name, index, value_start), type)


def _parse_clause(lexer: Lexer, graph: GraphText) -> None:
    if lexer.accept("targets"):
        graph.targets = comma_separated(lexer, lambda: _node_reference(lexer))
    elif graph.is_function and lexer.accept("control_outputs"):
        graph.control_outputs = dict(comma_separated(lexer, lambda: _labelled(lexer, _node_reference)))
    elif graph.is_function and lexer.accept("attrs"):
        graph.attrs = parse_attributes(lexer)
    elif graph.is_function and lexer.accept("gradient"):
        lexer.take("(")
        graph.gradient = lexer.take_ref("@", "a function")
        lexer.take(")")
    else:
        lexer.fail("'{', or a clause such as 'targets(...)'")


def _labelled(lexer: Lexer, take: Any) -> tuple[str, Any]:
    label = lexer.take_word("a name")
    lexer.take("=")
    return label, take(lexer)


# Nodes --------------------------------------------------------------------------------------------------------


def _parse_statement(lexer: Lexer) -> Statement:
    start, name = lexer.start, lexer.take_ref("%", "a node or '}'")
    lexer.take("=")
    statement = Statement(name, _operator(lexer), start)
    statement.operands = comma_separated(lexer, lambda: None if lexer.accept("none") else _reference(lexer))
    if lexer.at("{"):
        statement.attrs = parse_attributes(lexer)
    while lexer.kind == "word":
        if lexer.accept("after"):
            statement.after = comma_separated(lexer, lambda: _node_reference(lexer))
        elif lexer.accept("device"):
            lexer.take("(")
            statement.device = lexer.take_string("a device")
            lexer.take(")")
        elif lexer.accept("origins"):
            statement.origins = tuple(comma_separated(lexer, lambda: lexer.take_string("a source node's name")))
        else:
            lexer.fail("'after', 'device', 'origins', ':' or the next node")
    if lexer.accept(":"):
        typed = comma_separated(lexer, lambda: _named_type(lexer)) if lexer.at("(") else [_named_type(lexer)]
        statement.types = [type for type, _ in typed]
        statement.tensor_names = [tensor_name for _, tensor_name in typed]
    return statement


def _operator(lexer: Lexer) -> str:
    start, op = lexer.start, lexer.take_word("an operator")
    if "." not in op:
        lexer.error(f"the operator '{printable(op)}' lacks its dialect, as in tf.{printable(op)}", start)
    return op


def _named_type(lexer: Lexer) -> tuple[TensorType, str | None]:
    type = parse_type(lexer)
    return type, lexer.take_string("the tensor's name") if lexer.accept("as") else None


# Signatures ---------------------------------------------------------------------------------------------------


def parse_signature_text(lexer: Lexer) -> SignatureText:
    """A signature, from its keyword on."""
    start = lexer.start
    lexer.take("signature")
    signature = SignatureText(lexer.take_word("the signature's name"), start)
    if lexer.accept("of"):
        signature.graph = lexer.take_ref("@", "a graph")
    signature.inputs = _parse_places(lexer)
    lexer.take("->")
    signature.outputs = _parse_places(lexer)
    while lexer.kind == "word" and lexer.text in ("method", "inferred", "defaults", "reasons"):
        if lexer.accept("method"):
            lexer.take("(")
            signature.method_name = lexer.take_string("the method's name")
            lexer.take(")")
        elif lexer.accept("inferred"):
            signature.inferred = True
        elif lexer.accept("defaults"):
            signature.defaults = parse_attributes(lexer)
        else:
            lexer.take("reasons")
            pairs = comma_separated(lexer, lambda: _labelled(lexer, lambda lexer: lexer.take_string("a reason")))
            signature.reasons = dict(pairs)
    return signature


def _parse_places(lexer: Lexer) -> dict[str, Reference | int]:
    places: dict[str, Reference | int] = {}
    for start, (name, place) in comma_separated(lexer, lambda: (lexer.start, _labelled(lexer, _place))):
        if name in places:
            lexer.error(f"'{name}' is given twice", start)
        places[name] = place
    return places


def _place(lexer: Lexer) -> Reference | int:
    return lexer.take_int("a position") if lexer.accept("#") else _reference(lexer)
