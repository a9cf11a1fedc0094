"""Running transforms one after the other, as the Graph Transform Tool does.

That tool knows no signatures: it is told names, and looks for them in the graph when a transform needs them. So here
the declared inputs and outputs are looked up before each transform; one that was found and is renamed since is
followed, one that is not in the graph matters only to transforms that ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.ir.errors import Error, MalformedError, VerificationError
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.passes.manager import PassManager
from graphopt.passes.report import PassReport
from graphopt.transforms.grammar import Transform
from graphopt.transforms.table import Interface, adapter, known_arguments

Say = Callable[[str], None]
SIGNATURE = "serving_default"


class Applied:
    """One transform that was run: sizes before and after, what its passes report, and the error that was ignored."""

    __slots__ = ("ignored", "name", "nodes_after", "nodes_before", "passes")

    def __init__(self, name: str, nodes_before: int):
        self.name, self.nodes_before, self.nodes_after = name, nodes_before, nodes_before
        self.passes: list[PassReport] = []
        self.ignored = ""


def transform(
    model: Model,
    inputs: Sequence[str],
    outputs: Sequence[str],
    transforms: Sequence[Transform],
    say: Say = lambda text: None,
) -> tuple[Model, list[Applied]]:
    """Run `transforms` over `model`, in place; returns the model (a copy where an error was ignored) and what was done.

    `inputs` and `outputs` are names of nodes or tensors, with or without `:0`. `say` hears what is ignored. Raises
    `UsageError` for a transform that is not recognised or not used as it must be, before anything is run where that
    can be told, and `VerificationError` where a transform left a graph that is not valid.
    """
    for item in transforms:
        adapter(item)
        _ = item.ignores_errors
        for name in item.arguments:
            if name not in known_arguments(item.name):
                say(f"transform '{item.name}' takes no argument '{name}'; it is ignored")
    interface = _Names(inputs, outputs)
    done: list[Applied] = []
    for item in transforms:
        entry = Applied(item.name, model.node_count)
        kept = model.clone() if item.ignores_errors else None
        try:
            entry.passes = _apply(model, interface, item)
        except (VerificationError, MalformedError):
            raise
        except Error as error:
            if kept is None:
                raise
            model, entry.ignored = kept, str(error)
            interface.forget()
            say(f"{item.name}: ignoring error: {error}")
        entry.nodes_after = model.node_count
        done.append(entry)
    interface.declare(model)
    return model, done


def _apply(model: Model, names: _Names, item: Transform) -> list[PassReport]:
    passes = adapter(item)(model, names.declare(model), item)
    return PassManager(passes).run(model).passes


class _Names:
    """The declared names, and the nodes they were last found to mean."""

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str]):
        self._inputs, self._outputs = _cleaned(inputs), _cleaned(outputs)
        self._found: dict[str, Node] = {}

    def forget(self) -> None:
        """The graph is another one now."""
        self._found = {}

    def declare(self, model: Model) -> Interface:
        """Make what is there of the declared names the model's only signature."""
        graph = model.graph
        missing: list[str] = []
        inputs = {}
        for name, port in self._inputs:
            node = self._look_up(graph, name)
            if node is not None and port < len(node.outputs):
                inputs[_tensor(name, port)] = node.outputs[port]
        outputs = {}
        targets: list[Node] = []
        for name, port in self._outputs:
            node = self._look_up(graph, name)
            if node is None or (node.outputs and port >= len(node.outputs)):
                missing.append(_tensor(name, port))
            elif node.outputs:
                outputs[_tensor(name, port)] = node.outputs[port]
            else:
                targets.append(node)
        model.set_signature(inputs, outputs, SIGNATURE)
        graph.targets = targets
        return Interface(tuple(dict.fromkeys(value.node for value in inputs.values())), tuple(missing))

    def _look_up(self, graph: Graph, name: str) -> Node | None:
        node = graph.find(name)
        if node is None:
            node = self._found.get(name)
            return node if node is not None and node.graph is graph else None
        self._found[name] = node
        return node


def _cleaned(names: Sequence[str]) -> list[tuple[str, int]]:
    """Node names with ports, each once; what `--inputs=` splits into, an empty name, is none."""
    found: dict[tuple[str, int], None] = {}
    for text in names:
        whole = text.strip().removeprefix("^")
        name, colon, port = whole.rpartition(":")
        if not colon or not port.isdecimal():
            name, port = whole, "0"
        if name:
            found[name, int(port)] = None
    return list(found)


def _tensor(name: str, port: int) -> str:
    return name if port == 0 else f"{name}:{port}"
