"""Programs as a model of TensorFlow's, each one operator XlaCallModule, which a SavedModel can hold."""

from __future__ import annotations

from typing import Any

from graphopt.backends.xla.program import FORMAT, Program, add_signatures, programs_of
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.known import CONSTANT, constant_type
from graphopt.ir.model import Model
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

CALL_MODULE = "tf.XlaCallModule"
CALLING_CONVENTION = 7  # the last one by which TensorFlow puts numbers for unknown sizes without being told to


def called_model(model: Model) -> Model:
    """A model whose signatures call the programs of `model`, of the `xla` dialect; weights are constants.

    `graphopt.save(called_model(lowered.model), "folder/")` is a SavedModel that TensorFlow runs, compiled by XLA for
    the sizes it meets. Raises `UnsupportedError` for another model.
    """
    if model.format != FORMAT:
        raise UnsupportedError("only a model that was lowered to XLA has programs to call")
    result = Model()
    held: dict[int, Value] = {}
    ends: list[tuple[Program, list[Value], list[Value]]] = []
    for program in programs_of(model):
        inputs = [_placeholder(result, name, kind) for name, kind in program.inputs.items()]
        weights = [held.setdefault(id(tensor), _constant(result, name, tensor, held.get(id(tensor))))
                   for name, tensor in program.weights.items()]  # fmt: skip
        ends.append((program, inputs, _call(result, program, [*inputs, *weights])))
    add_signatures(result, ends)
    return result


def _open(kind: TensorType) -> TensorType:
    """The type as formats of TensorFlow's have it: without symbols."""
    return TensorType(kind.dtype, Shape(dim if isinstance(dim, int) else None for dim in kind.shape.dims or ()))


def _placeholder(model: Model, name: str, kind: TensorType) -> Value:
    kind = _open(kind)
    attrs = {"dtype": kind.dtype, "shape": kind.shape}
    return model.graph.create_node("tf.Placeholder", attrs=attrs, name=name, types=(kind,)).output


def _constant(model: Model, name: str, tensor: Any, made: Value | None) -> Value:
    if made is not None:
        return made
    attrs = {"dtype": tensor.dtype, "value": tensor}
    return model.graph.create_node(CONSTANT, attrs=attrs, name=name, types=(constant_type(tensor),)).output


def _call(model: Model, program: Program, operands: list[Value]) -> list[Value]:
    """The operator; returns its results, each under the output's name."""
    types = [_open(kind) for kind in program.outputs.values()]
    attrs = {
        "version": CALLING_CONVENTION, "module": program.code, "Sout": tuple(kind.shape for kind in types),
        "Tout": tuple(kind.dtype for kind in types), "Tin": tuple(value.dtype for value in operands),
        "dim_args_spec": (), "platforms": tuple(name.upper().encode() for name in program.platforms),
        "function_list": (), "has_token_input_output": False, "disabled_checks": (),
    }  # fmt: skip
    graph = model.graph
    node = graph.create_node(CALL_MODULE, operands, attrs, name=f"{program.signatures[0]}/program", types=types)
    return [
        graph.create_node("tf.Identity", [value], {"T": value.dtype}, name=name, types=(value.type,)).output
        for name, value in zip(program.outputs, node.outputs, strict=True)
    ]
