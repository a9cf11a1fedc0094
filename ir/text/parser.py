"""Parses the text form; `graphopt.ir.text` gives the grammar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import ARGUMENT, Function, Model, Signature, function_references
from graphopt.ir.text.attributes import parse_attribute
from graphopt.ir.text.lexer import Lexer
from graphopt.ir.text.printer import PLACEHOLDER
from graphopt.ir.text.short import completed, result_types
from graphopt.ir.text.statements import (
    GraphText,
    Parameter,
    Reference,
    SignatureText,
    Statement,
    parse_graph_text,
    parse_signature_text,
)
from graphopt.ir.traversal import BACK_EDGE_SOURCES
from graphopt.ir.types import UNKNOWN_DTYPE, DType
from graphopt.ir.value import Node, Value


def parse_model(text: str, source: str = "") -> Model:
    """The model that `text` describes: `model {...}`, or its graphs, functions and signatures without the wrapping.

    Raises `MalformedError` saying line and column; `source` names the file in it.
    """
    lexer = Lexer(text, source)
    versions = _parse_versions(lexer) if lexer.accept("model") else None
    graphs: list[GraphText] = []
    signatures: list[SignatureText] = []
    while not (lexer.at_end if versions is None else lexer.at("}")):
        if lexer.at("signature"):
            signatures.append(parse_signature_text(lexer))
        elif lexer.at("graph") or lexer.at("function"):
            graphs.append(parse_graph_text(lexer))
        else:
            lexer.fail("'graph', 'function' or 'signature'" + (" or '}'" if versions is not None else ""))
    if versions is not None:
        lexer.take("}")
    _take_end(lexer)
    model = _built(lexer, graphs)
    model.versions = versions or (0, 0, ())
    for signature in signatures:
        if signature.name in model.signatures:
            lexer.error(f"signature '{printable(signature.name)}' is given twice", signature.start)
        model.signatures[signature.name] = _signature(lexer, model, signature)
    return model


def parse_graph(text: str, source: str = "") -> Graph:
    """The one graph or function that `text` describes. Raises like `parse_model`."""
    lexer = Lexer(text, source)
    parsed = parse_graph_text(lexer)
    _take_end(lexer)
    return _Builder(lexer, parsed, {}).build()


def _take_end(lexer: Lexer) -> None:
    if not lexer.at_end:
        lexer.fail("the end of the text")


def _parse_versions(lexer: Lexer) -> tuple[int, int, tuple[int, ...]]:
    numbers = {"producer": 0, "min_consumer": 0}
    bad: tuple[int, ...] = ()
    while not lexer.accept("{"):
        key, start = lexer.take_word("'{' or 'producer'"), lexer.start
        lexer.take("=")
        if key in numbers:
            numbers[key] = lexer.take_int("a version")
        elif key == "bad_consumers":
            bad = parse_attribute(lexer)
            if type(bad) is not tuple or not all(type(number) is int for number in bad):
                lexer.error("bad_consumers is a list of versions", start)
        else:
            lexer.error(f"a model has no '{printable(key)}'", start)
    return numbers["producer"], numbers["min_consumer"], bad


def _built(lexer: Lexer, graphs: Sequence[GraphText]) -> Model:
    """The model of `graphs`; callees are built first, so that calls in the short form know their results."""
    mains = [graph for graph in graphs if not graph.is_function]
    if len(mains) > 1:
        lexer.error("a model has one main graph", mains[1].start)
    texts: dict[str, GraphText] = {}
    for graph in graphs:
        if graph.is_function and texts.setdefault(graph.name, graph) is not graph:
            lexer.error(f"function '{printable(graph.name)}' is defined twice", graph.start)
    built: dict[str, Function] = {}
    for text in _callees_first(texts):
        function = _Builder(lexer, text, built).build()
        assert isinstance(function, Function)
        built[text.name] = function
    model = Model(_Builder(lexer, mains[0], built).build() if mains else None)
    for name in texts:
        model.add_function(built[name])
    return model


def _callees_first(texts: Mapping[str, GraphText]) -> Iterator[GraphText]:
    done: dict[str, None] = {}
    for root in texts:
        stack = [(root, _callees(texts[root]))] if root not in done else []
        done.setdefault(root)
        while stack:
            name, pending = stack[-1]
            callee = next((c for c in pending if c in texts and c not in done), None)
            if callee is None:
                stack.pop()
                yield texts[name]
            else:
                done[callee] = None
                stack.append((callee, _callees(texts[callee])))


def _callees(text: GraphText) -> Iterator[str]:
    for statement in text.statements.values():
        yield statement.op.partition(".")[2]
        for value in statement.attrs.values():
            for reference in function_references(value):
                yield reference.name


def _signature(lexer: Lexer, model: Model, text: SignatureText) -> Signature:
    graph: Graph | None = model.graph
    if text.graph is not None:
        graph = model.functions.get(text.graph, model.graph if text.graph == model.graph.name else None)
    if graph is None:
        lexer.error(f"there is no graph '{printable(text.graph or '')}'", text.start)
    signature = Signature(graph, method_name=text.method_name, inferred=text.inferred)
    signature.defaults, signature.reasons = text.defaults, text.reasons
    for what, places, values, found in (
        ("input", text.inputs, graph.inputs, signature.inputs),
        ("output", text.outputs, graph.outputs, signature.outputs),
    ):
        known: dict[tuple[str, int], int] = {}
        for number, value in enumerate(values):
            known.setdefault((value.node.name, value.index), number)
        for name, place in places.items():
            position = place if isinstance(place, int) else known.get((place.name, place.place), -1)
            if not 0 <= position < len(values):
                start = text.start if isinstance(place, int) else place.start
                lexer.error(f"'{printable(name)}' of the signature is no {what} of the graph", start)
            found[name] = position
    return signature


class _Builder:
    """Makes one graph of its statements."""

    __slots__ = ("_functions", "_graph", "_lexer", "_referenced", "_text")

    def __init__(self, lexer: Lexer, text: GraphText, functions: Mapping[str, Function]):
        self._lexer, self._text, self._functions = lexer, text, functions
        self._graph = Function(text.name) if text.is_function else Graph(text.name)
        self._referenced: dict[str, int] = {}  # node -> outputs that somebody asks for

    def build(self) -> Graph:
        text, graph = self._text, self._graph
        statements = {**self._implied(), **text.statements}
        for statement in statements.values():
            self._count_references(statement.operands)
        self._count_references(parameter.value for parameter in (*text.parameters, *text.results))
        for statement in statements.values():
            node = Node(statement.op, statement.name, statement.attrs, statement.device)
            node.origins = statement.origins
            for place, type in enumerate(statement.types or ()):
                node.add_output(type).name = statement.tensor_names[place]
            graph.append_new(node)
        self._settle(statements)
        for statement, node in zip(statements.values(), list(graph), strict=True):
            node.set_inputs(None if operand is None else self._value(operand) for operand in statement.operands)
            for control in statement.after:
                if control.name == statement.name:
                    self._lexer.error("a node cannot wait for itself", control.start)
                node.add_control_input(self._node(control))
        self._finish()
        return graph

    def _implied(self) -> dict[str, Statement]:
        """Statements for the parameters that have none."""
        implied: dict[str, Statement] = {}
        for place, parameter in enumerate(self._text.parameters):
            name, index, start = parameter.value
            if name in self._text.statements:
                continue
            if parameter.type is None or index:
                self._lexer.error("a parameter without a node of its own needs a type", start)
            if name in implied:
                self._lexer.error("the parameter is listed twice", start)
            statement = implied[name] = Statement(name, ARGUMENT if self._text.is_function else PLACEHOLDER, start)
            statement.types, statement.tensor_names = [parameter.type], [None]
            statement.attrs = {"dtype": parameter.type.dtype, "shape": parameter.type.shape}
            if self._text.is_function:
                statement.attrs = {"T": parameter.type.dtype, "index": place}
        return implied

    def _count_references(self, references: object) -> None:
        for reference in references:  # type: ignore[attr-defined]
            if reference is not None:
                count = self._referenced.get(reference.name, 0)
                self._referenced[reference.name] = max(count, reference.place + 1)

    # Types ----------------------------------------------------------------------------------------------------

    def _settle(self, statements: Mapping[str, Statement]) -> None:
        """Complete every node in the short form, after those it reads save over the back edges of loops."""
        typed = {p.value.name: p for p in self._text.parameters if p.type is not None and not p.value.place}
        done: set[str] = {name for name, statement in statements.items() if statement.types is not None}
        loops = {name for name, statement in statements.items() if statement.op in BACK_EDGE_SOURCES}
        for root in statements:
            stack = [(root, iter(statements[root].operands))] if root not in done else []
            done.add(root)
            while stack:
                name, pending = stack[-1]
                read = (operand.name for operand in pending if operand is not None)
                producer = next((n for n in read if n in statements and n not in done and n not in loops), None)
                if producer is None:
                    stack.pop()
                    self._complete(statements[name], typed.get(name))
                else:
                    done.add(producer)
                    stack.append((producer, iter(statements[producer].operands)))

    def _complete(self, statement: Statement, parameter: Parameter | None) -> None:
        operands = [UNKNOWN_DTYPE if operand is None else self._dtype(operand) for operand in statement.operands]
        node = self._graph.node(statement.name)
        node.attrs = completed(statement.op, statement.attrs, operands, self._functions)
        referenced = self._referenced.get(statement.name, 1)
        types = result_types(statement.op, node.attrs, self._functions, referenced)
        if parameter is not None and parameter.type is not None and types:
            types[0] = parameter.type
        for type in types:
            node.add_output(type)

    def _dtype(self, operand: Reference) -> DType:
        node = self._graph.find(operand.name)
        if node is None or operand.place >= len(node.outputs):
            return UNKNOWN_DTYPE
        return node.outputs[operand.place].dtype

    # Names ----------------------------------------------------------------------------------------------------

    def _node(self, reference: Reference) -> Node:
        node = self._graph.find(reference.name)
        if node is None:
            self._lexer.error(f"there is no node '{printable(reference.name)}'", reference.start)
        return node

    def _value(self, reference: Reference) -> Value:
        node = self._node(reference)
        if reference.place >= len(node.outputs):
            what = f"has {len(node.outputs)} outputs, none numbered {reference.place}"
            self._lexer.error(f"node '{printable(node.name)}' ({printable(node.op)}) {what}", reference.start)
        return node.outputs[reference.place]

    def _finish(self) -> None:
        text, graph = self._text, self._graph
        for parameter in text.parameters:
            value = self._value(parameter.value)
            if parameter.type is not None and parameter.type != value.type:
                problem = f"the parameter is {parameter.type} and its node says {value.type}"
                self._lexer.error(problem, parameter.value.start)
        graph.inputs = [self._value(parameter.value) for parameter in text.parameters]
        graph.outputs = [self._value(result.value) for result in text.results]
        if isinstance(graph, Function):
            graph.input_names = [p.value.name if p.label is None else p.label for p in text.parameters]
            graph.output_names = [r.value.name if r.label is None else r.label for r in text.results]
            graph.control_outputs = {name: self._node(node) for name, node in text.control_outputs.items()}
            graph.attrs, graph.gradient = text.attrs, text.gradient
            graph.targets = graph.control_outputs.values()
        if text.targets is not None:
            graph.targets = [self._node(target) for target in text.targets]
