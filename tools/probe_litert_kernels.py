"""Compares the table of LiteRT's kernels, `ir/ops/tflite_kernels.py`, with what the installed LiteRT does.

    python tools/probe_litert_kernels.py                  # print disagreements; exit status 1 if there are any
    python tools/probe_litert_kernels.py --show ADD MUL   # what LiteRT accepts, operator by operator
    python tools/probe_litert_kernels.py --versions       # the highest version of each operator that it knows

For each operator, element type and rank a model of that one operator is written with our own writer and run, without
delegates, in a process of its own, since LiteRT may crash. Where the types are not quantized, the outputs must also be
those of the same operator on float32 or, failing that, int32: a kernel that runs and computes something else counts as
one that does not exist. That a quantized use runs proves less, so only uses that the table claims and LiteRT refuses
count there.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from probe_litert_layers import TEMPLATES
from probe_litert_references import REFERENCES
from probe_litert_templates import Operand, Probe

from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.ops.tflite_kernel_types import NAMES
from graphopt.ir.ops.tflite_kernels import supports
from graphopt.ir.tensors import tensor
from graphopt.ir.types import Quantization, Shape, TensorType, dtype_named

RANKS = range(9)
QUANTIZED = ("qi4", "qi8", "qi16", "qu8")
PLAIN = (
    "f32", "f16", "bf16", "f64", "i4", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool", "str", "c64",
    "c128",
)  # fmt: skip
UNVERIFIED = "runs"  # and whether it computes what it should is not known


class Case(NamedTuple):
    """One use of an operator: which type stands for the letters of the template, and of which rank."""

    operator: str
    letters: dict[str, str]
    rank: int
    fed: int = -1  # a constant of the template that is fed instead

    def __str__(self) -> str:
        letters = "".join(f" {key}={name}" for key, name in self.letters.items())
        fed = f" with input {self.fed} computed" if self.fed >= 0 else ""
        return f"{self.operator}{letters} rank {self.rank}{fed}"


def type_of(token: str, shape: Sequence[int], scale: tuple[float, int] | None) -> TensorType:
    """The type of a token: `i8` is plain, `qi8` quantized."""
    is_quantized = token.startswith("q")
    dtype = dtype_named(NAMES[token[1:] if is_quantized else token])
    if scale is not None and token in ("qi16", "qu8"):  # what those kernels demand of their outputs, by type
        scale = (1 / 32768, 0) if token == "qi16" else (scale[0], scale[1] + 128)
    scale = scale or (0.5, 0)
    return TensorType(dtype, Shape(shape), Quantization((scale[0],), (scale[1],)) if is_quantized else None)


def values_of(token: str, operand: Operand) -> np.ndarray[Any, Any]:
    """What an operand holds, as float64 numbers; small whole ones, so that every type can express them."""
    if operand.values is not None:
        return np.asarray(operand.values)
    count = int(np.prod(operand.shape))
    return np.asarray((np.arange(count) * 7 + 1) % 5 + 1).reshape(operand.shape)


def as_type(array: np.ndarray[Any, Any], token: str, is_fed: bool) -> np.ndarray[Any, Any]:
    name = NAMES[token.removeprefix("q")]
    if name == "string":
        found = np.empty(array.shape, object)
        for index in np.ndindex(array.shape):
            found[index] = str(array[index]).encode()
        return found
    wanted = dtype_named(name).numpy
    if name in ("int4", "uint4") and is_fed:
        return array.astype(np.int8 if name == "int4" else np.uint8)  # LiteRT packs what it is fed
    return (array % 2 == 1) if name == "bool" else array.astype(wanted)


def built(case: Case, probe: Probe, letters: dict[str, str]) -> tuple[bytes, Model, list[np.ndarray[Any, Any]]]:
    """A model of one operator, and what to feed it."""
    model, feeds = Model(), []
    operands = []
    for place, operand in enumerate(probe.inputs):
        if operand is None:
            operands.append(None)
            continue
        token = letters.get(operand.token, operand.token)
        type = type_of(token, operand.shape, operand.scale)
        array = as_type(values_of(token, operand), token, not operand.is_constant or place == case.fed)
        if operand.is_constant and place != case.fed:
            node = model.graph.create_node("tfl.CONSTANT", [], {"value": tensor(array, type.dtype)}, name=f"c{place}")
        else:
            node = model.graph.create_node(
                "tfl.VARIABLE" if operand.is_variable else "tfl.INPUT", [], {}, name=f"x{place}"
            )
            if not operand.is_variable:
                feeds.append(array)
        if not node.outputs:
            node.add_output()
        node.outputs[0].type = type
        operands.append(node.outputs[0])
    attrs = dict(probe.attrs)
    for key, item in probe.attrs.items():
        if isinstance(item, str):  # "=T": the type of letter T
            attrs[key] = dtype_named(NAMES[letters[item[1:]].removeprefix("q")])
    node = model.graph.create_node(f"tfl.{case.operator}", operands, attrs, name="y")
    while len(node.outputs) < len(probe.outputs):
        node.add_output()
    for value, operand in zip(node.outputs, probe.outputs, strict=True):
        value.type = type_of(letters.get(operand.token, operand.token), operand.shape, operand.scale)
    model.graph.inputs = [v for v in operands if v is not None and v.node.op == "tfl.INPUT"]
    model.graph.outputs = node.outputs
    return tflite_bytes(model), model, feeds


def run(data: bytes, feeds: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]] | str:
    """The outputs, or the first words of what LiteRT says against the model."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        for item, array in zip(interpreter.get_input_details(), feeds, strict=True):
            interpreter.set_tensor(item["index"], array)
        interpreter.invoke()
        return [_fetched(interpreter, item["index"]) for item in interpreter.get_output_details()]
    except (RuntimeError, ValueError, TypeError) as error:
        return " ".join(str(error).split())[:150]


def _fetched(interpreter: Any, index: int) -> np.ndarray[Any, Any]:
    try:
        return interpreter.get_tensor(index)
    except ValueError:  # of a tensor without elements
        item = next(item for item in interpreter.get_tensor_details() if item["index"] == index)
        if np.prod(item["shape"]):
            raise
        return np.zeros(item["shape"], item["dtype"])


def outcome(case: Case) -> str:
    """What LiteRT makes of the case: an empty string where all is well."""
    probe = TEMPLATES[case.operator].probe(case.rank)
    if probe is None:
        return "no such rank"
    try:
        data, _, feeds = built(case, probe, case.letters)
    except Exception as error:
        return f"not written: {type(error).__name__} {error}"
    found = run(data, feeds)
    if isinstance(found, str):
        return found
    names = case.letters.values()
    if "str" in names or "q" in "".join(names) or TEMPLATES[case.operator].is_free:
        return UNVERIFIED
    return _compared(case, probe, found)


def _compared(case: Case, probe: Probe, found: list[np.ndarray[Any, Any]]) -> str:
    reference, template = REFERENCES.get(case.operator), TEMPLATES[case.operator].letters
    is_mixed = any(name == "bool" and template[key] != "f32" for key, name in case.letters.items())
    if (is_mixed or ("bool" in case.letters.values() and len(template) > 2)) and set(template.values()) != {"bool"}:
        return UNVERIFIED  # ones and zeros prove little
    wanted: list[np.ndarray[Any, Any]] | str
    if reference is not None:
        operands = [operand for operand in probe.inputs if operand is not None]
        tokens = [case.letters.get(operand.token, operand.token) for operand in operands]
        arrays = [values_of(token, operand) for token, operand in zip(tokens, operands, strict=True)]
        arrays = [
            as_type(array, "bool", False) if token == "bool" else array
            for token, array in zip(tokens, arrays, strict=True)
        ]
        wanted = [np.asarray(reference(*arrays))]
    else:
        wanted = _with_plain_types(case, probe)
    if isinstance(wanted, str):
        return UNVERIFIED
    for ours, theirs in zip(found, wanted, strict=False):
        if ours.shape != theirs.shape or not _is_close(ours, theirs):
            return f"runs but is wrong: {ours.reshape(-1)[:4]} for {theirs.reshape(-1)[:4]}"
        if ours.dtype.kind in "iub" and theirs.dtype.kind == "f" and (theirs != np.trunc(theirs)).any():
            return UNVERIFIED
    return ""


def _with_plain_types(case: Case, probe: Probe) -> list[np.ndarray[Any, Any]] | str:
    """What the operator gives on float32, or on int32."""
    template = TEMPLATES[case.operator].letters
    for replacement in ("f32", "i32"):
        letters = {key: replacement if first == "f32" else first for key, first in template.items()}
        letters.update((key, name) for key, name in case.letters.items() if name in ("bool", "str"))
        data, _, feeds = built(case, probe, letters)
        wanted = run(data, feeds)
        if not isinstance(wanted, str):
            return wanted
    return "no plain type"


def _is_close(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> bool:
    """Equal to the last place of the narrower type: one for whole numbers, a twentieth of the largest for reals."""
    if ours.dtype == object or theirs.dtype == object or not ours.size:
        return True
    wide = np.complex128 if "c" in (ours.dtype.kind, theirs.dtype.kind) else np.float64
    with np.errstate(all="ignore"):
        expected, error = theirs.astype(wide), np.abs(theirs.astype(wide) - ours.astype(wide))
    bound = 1.01 if ours.dtype.kind in "iu" else 0.05 * max(1.0, float(np.abs(expected).max()))
    return bool(error.max() <= bound)


def isolated(cases: Sequence[Case]) -> Iterator[tuple[Case, str]]:
    """Outcomes, each found in a forked process that may die."""
    from ai_edge_litert import interpreter  # noqa: F401  (before forking)

    place = 0
    while place < len(cases):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _silence()
            for number in range(place, len(cases)):
                os.write(writer, f"{number}\t\x01\n".encode())
                os.write(writer, f"{number}\t{' '.join(outcome(cases[number]).split())}\n".encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            begun = -1
            for line in pipe:
                number, _, text = line.decode(errors="replace").rstrip("\n").partition("\t")
                if text == "\x01":
                    begun = int(number)
                    continue
                yield cases[int(number)], text
                place = int(number) + 1
        _, status = os.waitpid(child, 0)
        if place < len(cases):
            yield cases[begun], f"crashes: {os.waitstatus_to_exitcode(status)}"
            place = begun + 1


def _silence() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    import signal

    signal.alarm(600)


def cases_of(operator: str) -> list[Case]:
    """All types for each letter, at the template's own rank; all ranks for the types it starts with."""
    template = TEMPLATES[operator]
    found: list[Case] = []
    names = (*PLAIN, *QUANTIZED)
    for letter in template.letters or ("",):
        for name in names if letter else ("",):
            letters = {**template.letters, letter: name} if letter else {}
            for other, same in template.follows.items():
                if other == letter:
                    letters[same] = name
            found.append(Case(operator, letters, template.rank))
    found += [Case(operator, dict(template.letters), rank) for rank in RANKS if rank != template.rank]
    probe = template.probe(template.rank)
    assert probe is not None
    constants = [place for place, operand in enumerate(probe.inputs) if operand is not None and operand.is_constant]
    found += [Case(operator, dict(template.letters), template.rank, place) for place in constants]
    for kind in template.also:
        found += [Case(operator, {**template.letters, **kind}, rank) for rank in RANKS]
    return found


def claimed(case: Case) -> str:
    """What the table says of the case: an empty string for supported."""
    probe = TEMPLATES[case.operator].probe(case.rank)
    if probe is None:
        return "no such rank"
    _, model, _ = built(case, probe, case.letters)
    node = model.graph.node("y")
    types = [None if value is None else value.type for value in node.inputs]
    constants = [value is not None and value.node.op == "tfl.CONSTANT" for value in node.inputs]
    outputs = [value.type for value in node.outputs]
    return supports(node.op_type, types, outputs, node.attrs, constants=constants) or ""


def compare(operators: Sequence[str], show: bool) -> int:
    """Print where table and LiteRT differ; returns how often they do."""
    cases = [case for operator in operators for case in cases_of(operator)]
    differing = 0
    for case, text in isolated(cases):
        if text == "no such rank":
            continue
        said = claimed(case)
        differs = bool(text) != bool(said) and text != UNVERIFIED
        differing += differs
        if differs or show:
            mark = "DIFFERS " if differs else ""
            print(f"{mark}{case}: LiteRT: {text or 'runs and is right'}; table: {said or 'supported'}", flush=True)
    print(f"{len(cases)} uses of {len(operators)} operators: {differing} disagreements")
    return differing


def highest_versions(operators: Sequence[str]) -> dict[str, int]:
    """The highest version of each operator that LiteRT resolves."""
    found = {}
    for operator in operators:
        template = TEMPLATES[operator]
        probe = template.probe(template.rank)
        assert probe is not None
        version = 1
        for candidate in range(1, 30):
            case = Case(operator, dict(template.letters), template.rank)
            changed = probe._replace(attrs={**probe.attrs, "_version": candidate})
            result = run(*built(case, changed, case.letters)[::2])
            if not (isinstance(result, str) and re.search("Didn't find op for builtin opcode", result)):
                version = candidate
        found[operator] = version
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("operators", nargs="*", help="operators to look at; all by default")
    parser.add_argument("--show", action="store_true", help="print what agrees too")
    parser.add_argument("--versions", action="store_true", help="print the highest version of each operator")
    options = parser.parse_args(arguments)
    operators = options.operators or list(TEMPLATES)
    if options.versions:
        for operator, version in highest_versions(operators).items():
            print(operator, version)
        return 0
    return 1 if compare(operators, options.show) else 0


if __name__ == "__main__":
    sys.exit(main())
