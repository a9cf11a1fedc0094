"""The folder that a lowered model is written to: programs as VHLO and as `jax.export` blobs, weights, a manifest.

| file | holds |
|---|---|
| `manifest.json` | signatures, names, types, order, platforms, versions |
| `NAME.stablehlo` | the program as portable bytecode |
| `NAME.jax` | the same for `jax.export.deserialize`, which needs JAX alone |
| `weights.npz`, `weights.safetensors` | the weights, where they are arguments |
| `NAME.h`, `NAME.o` and more | the program compiled ahead of time, where that was asked for |
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.backends.xla.ahead import MAKEFILE, AheadOptions, class_names, compile_ahead, identifiers, makefile
from graphopt.backends.xla.options import WEIGHTS_FORMATS
from graphopt.backends.xla.program import FORMAT, Program, model_of, programs_of
from graphopt.backends.xla.safetensors import read_safetensors, write_safetensors
from graphopt.backends.xla.state import State
from graphopt.backends.xla.weights import read_weights, write_weights
from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.formats.atomic import directory_written_atomically
from graphopt.ir.model import Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.text.attributes import parse_type
from graphopt.ir.text.lexer import Lexer
from graphopt.ir.types import TensorType

SCHEMA = "graphopt.xla/1"
MANIFEST, WEIGHTS = "manifest.json", "weights"
CODE_SUFFIX, EXPORT_SUFFIX = ".stablehlo", ".jax"
MANIFEST_LIMIT = 1 << 26
CODE_HEAD = b"ML\xefR"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")


def is_artifact(path: str) -> bool:
    """The folder has a manifest of this schema."""
    try:
        with open(os.path.join(path, MANIFEST), "rb") as file:
            return b'"graphopt.xla/' in file.read(4096)
    except OSError:
        return False


def write_artifact(
    model: Model, path: str | os.PathLike[str], *, overwrite: bool = False, ahead: AheadOptions | None = None
) -> None:
    """Write a model of the `xla` dialect into the folder `path`, all of it or nothing; `ahead` compiles it too.

    Raises `UnsupportedError` for another model, where JAX cannot express a program's dimensions, and where it is to be
    compiled ahead of time and cannot be.
    """
    if model.format != FORMAT:
        raise UnsupportedError("only a model that was lowered to XLA can be written as its artifact")
    from graphopt.backends.xla.exporting import serialized_export

    programs = programs_of(model)
    exports = [program.exported or serialized_export(program) for program in programs]
    held, tensors = _keyed(programs)
    names = _file_names(programs)
    manifest = _manifest(programs, names, held)
    for entry, program, export in zip(manifest["programs"], programs, exports, strict=True):
        entry["sha256"] = {"stablehlo": _digest(program.code), "jax_export": _digest(export)}
    compiled = _compiled(manifest, programs, names, ahead) if ahead is not None else {}
    with directory_written_atomically(path, overwrite=overwrite) as folder:
        for program, name, export in zip(programs, names, exports, strict=True):
            _write(os.path.join(folder, name + CODE_SUFFIX), program.code)
            _write(os.path.join(folder, name + EXPORT_SUFFIX), export)
        for name, data in compiled.items():
            _write(os.path.join(folder, name), data)
        if tensors:
            manifest["weights"] = _write_weights(folder, programs[0].weights_format, tensors)
        _write(os.path.join(folder, MANIFEST), json.dumps(manifest, indent=1).encode() + b"\n")


def _keyed(programs: list[Program]) -> tuple[dict[int, str], dict[str, Tensor]]:
    """Id of each tensor -> its key, and those that are written: of equal ones in several programs, one."""
    held: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    known: dict[Any, str] = {}
    for program in programs:
        for tensor in (*program.weights.values(), *(state.initial for state in program.state)):
            if id(tensor) in held:
                continue
            same: Any = id(tensor)
            if len(programs) > 1:
                same = tensor.dtype, tensor.shape, _digest(np.asarray(tensor.numpy(), order="C").tobytes())
            key = held[id(tensor)] = known.setdefault(same, f"w{len(known)}")
            tensors.setdefault(key, tensor)
    return held, tensors


def _write_weights(folder: str, kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The entry of the manifest for the file that they are written to."""
    name = f"{WEIGHTS}.{kind}"
    path = os.path.join(folder, name)
    (write_safetensors if kind == "safetensors" else write_weights)(path, tensors)
    return {"file": name, "format": kind, "sha256": _digest_of_file(path)}


def _compiled(
    manifest: dict[str, Any], programs: list[Program], names: list[str], options: AheadOptions
) -> dict[str, bytes]:
    """Name -> contents of what compilation ahead of time makes; the manifest's entries are told."""
    found: dict[str, bytes] = {}
    objects: dict[str, list[str]] = {}
    for entry, program, name, shown in zip(
        manifest["programs"], programs, names, class_names(names, options), strict=True
    ):
        files = compile_ahead(program, name, shown, options)
        objects[name] = [file for file in files if file.endswith(".o")]
        entry["ahead_of_time"] = {
            "class": shown, "cpu": options.cpu, "triple": options.machine, "header": name + ".h",
            "objects": objects[name],
            "inputs": dict(zip(program.inputs, identifiers(program.inputs), strict=True)),
            "outputs": dict(zip(program.outputs, identifiers(program.outputs), strict=True)),
        }  # fmt: skip
        found |= files
    return found | {MAKEFILE: makefile(objects).encode()}


def _file_names(programs: list[Program]) -> list[str]:
    names: dict[str, None] = {}
    for place, program in enumerate(programs):
        name = program.signatures[0]
        is_plain = _PLAIN.match(name) and name.lower() not in {known.lower() for known in names}
        names[name if is_plain else f"program_{place}"] = None
    return list(names)


def _manifest(programs: list[Program], names: list[str], held: Mapping[int, str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "programs": [
            {
                "signatures": list(program.signatures),
                "stablehlo": name + CODE_SUFFIX,
                "jax_export": name + EXPORT_SUFFIX,
                "minimum_version": program.minimum_version,
                "platforms": list(program.platforms),
                "producer": program.producer,
                "inputs": [_end(key, kind) for key, kind in program.inputs.items()],
                "outputs": [_end(key, kind) for key, kind in program.outputs.items()],
                "weights": [_stored(held, key, tensor) for key, tensor in program.weights.items()],
                "state": [
                    {**_stored(held, state.input, state.initial), "input": state.input, "output": state.output}
                    for state in program.state
                ],
            }
            for program, name in zip(programs, names, strict=True)
        ],
    }


def _stored(held: Mapping[int, str], name: str, tensor: Tensor) -> dict[str, Any]:
    return {"key": held[id(tensor)], "name": name, "dtype": tensor.dtype.name, "shape": list(tensor.shape)}


def _end(name: str, kind: TensorType) -> dict[str, Any]:
    dims = [dim if isinstance(dim, int) else "?" if dim is None else str(dim) for dim in kind.shape.dims or ()]
    return {"name": name, "dtype": kind.dtype.name, "shape": dims}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of_file(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


# Reading ------------------------------------------------------------------------------------------------------


def read_artifact(path: str | os.PathLike[str]) -> Model:
    """The model of the `xla` dialect that an artifact's folder holds. Raises `MalformedError`."""
    folder = os.fspath(path)
    where = os.path.join(folder, MANIFEST)
    manifest = _parsed(_read(where, MANIFEST_LIMIT), where)
    if manifest.get("schema") != SCHEMA:
        shown = printable(str(manifest.get("schema")))
        raise MalformedError(f"its schema is '{shown}', not {SCHEMA}", source=where, field="schema")
    entries = _list(manifest, "programs", where)
    if not entries:
        raise MalformedError("there is no program", source=where, field="programs")
    kind, weights = _weights(folder, manifest, _wanted(entries, where), where)
    programs = [_program(folder, entry, weights, kind, where) for entry in entries]
    names = [name for program in programs for name in program.signatures]
    if len(set(names)) != len(names):
        raise MalformedError("a signature is named twice", source=where, field="signatures")
    model = model_of(programs)
    model.source = folder
    return model


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"this is no JSON: {printable(str(error))}", source=where) from error
    if not isinstance(manifest, dict):
        raise MalformedError("this is no JSON object", source=where)
    return manifest


def _list(entry: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    found = entry.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise MalformedError("this is no list of objects", source=where, field=key)
    return found


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    found = entry.get(key)
    if not isinstance(found, str):
        raise MalformedError("this is no text", source=where, field=key)
    return found


def _wanted(entries: list[dict[str, Any]], where: str) -> dict[str, TensorType]:
    """Key of each weight -> its type."""
    return {
        _text(weight, "key", where): _type(weight, where)
        for entry in entries
        for weight in (*_list(entry, "weights", where), *_states(entry, where))
    }


def _states(entry: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The variables of a program; manifests written before there were any do not speak of them."""
    return _list(entry, "state", where) if "state" in entry else []


def _weights(
    folder: str, manifest: dict[str, Any], wanted: Mapping[str, TensorType], where: str
) -> tuple[str, dict[str, Tensor]]:
    """The format of the weights, and those that are `wanted`."""
    if not wanted:
        return WEIGHTS_FORMATS[0], {}
    entry = manifest.get("weights")
    if not isinstance(entry, dict):
        raise MalformedError("it does not say where the weights are", source=where, field="weights")
    kind = _text(entry, "format", where)
    if kind not in WEIGHTS_FORMATS:
        raise MalformedError(f"'{printable(kind)}' is no format of weights", source=where, field="format")
    path = _beside(folder, entry, "file", where)
    try:
        digest = _digest_of_file(path)
    except OSError as error:
        raise MalformedError(f"the weights cannot be read: {error.strerror}", source=path) from error
    if digest != _text(entry, "sha256", where):
        raise MalformedError("it is not what was written: its digest is another", source=path)
    return kind, (read_safetensors if kind == "safetensors" else read_weights)(path, wanted)


def _program(folder: str, entry: dict[str, Any], weights: Mapping[str, Tensor], kind: str, where: str) -> Program:
    signatures, platforms = entry.get("signatures"), entry.get("platforms")
    for key, found in (("signatures", signatures), ("platforms", platforms)):
        if not isinstance(found, list) or not found or not all(isinstance(item, str) for item in found):
            raise MalformedError("this is no list of names", source=where, field=key)
    assert isinstance(signatures, list)
    assert isinstance(platforms, list)
    code, export = (_checked(folder, entry, key, where) for key in ("stablehlo", "jax_export"))
    if not code.startswith(CODE_HEAD):
        raise MalformedError("this is no StableHLO bytecode", source=_beside(folder, entry, "stablehlo", where))
    ends = [
        {_text(end, "name", where): _type(end, where) for end in _list(entry, side, where)}
        for side in ("inputs", "outputs")
    ]
    if not ends[1]:
        raise MalformedError("there is no output", source=where, field="outputs")
    return Program(
        tuple(signatures), ends[0], ends[1], code,
        {_text(item, "name", where): weights[item["key"]] for item in _list(entry, "weights", where)},
        tuple(platforms), _text(entry, "minimum_version", where), _text(entry, "producer", where), export, kind,
        tuple(_state(item, ends, weights, where) for item in _states(entry, where)),
    )  # fmt: skip


def _state(item: dict[str, Any], ends: list[dict[str, TensorType]], weights: Mapping[str, Tensor], where: str) -> State:
    """A variable, whose input and output are among those of the program."""
    names = _text(item, "input", where), _text(item, "output", where)
    for name, there in zip(names, ends, strict=True):
        if name not in there:
            raise MalformedError(f"'{printable(name)}' is no end of the program", source=where, field="state")
    return State(*names, weights[item["key"]])


def _checked(folder: str, entry: Mapping[str, Any], key: str, where: str) -> bytes:
    """The contents of a file that the manifest names, which must be those that were written."""
    path = _beside(folder, entry, key, where)
    data = _read(path)
    digests = entry.get("sha256")
    if not isinstance(digests, dict) or digests.get(key) != _digest(data):
        raise MalformedError("it is not what was written: its digest is another", source=path)
    return data


def _beside(folder: str, entry: Mapping[str, Any], key: str, where: str) -> str:
    """The path of a file that the manifest names, which must lie in the folder itself."""
    name = _text(entry, key, where)
    if not _PLAIN.match(name):
        raise MalformedError(f"'{printable(name)}' is no name of a file beside it", source=where, field=key)
    return os.path.join(folder, name)


def _read(path: str, limit: int | None = None) -> bytes:
    try:
        if limit is not None and os.path.getsize(path) > limit:
            raise MalformedError(f"it is larger than {limit} bytes", source=path)
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise MalformedError(f"it cannot be read: {error.strerror}", source=path) from error


def _type(entry: Mapping[str, Any], where: str) -> TensorType:
    dims = entry.get("shape")
    if not isinstance(dims, list) or not all(isinstance(dim, (int, str)) and not isinstance(dim, bool) for dim in dims):
        raise MalformedError("this is no list of dimensions", source=where, field="shape")
    text = f"{_text(entry, 'dtype', where)}[{', '.join(map(str, dims))}]"
    try:
        return parse_type(Lexer(text))
    except MalformedError as error:
        raise MalformedError(f"'{printable(text)}' is no type", source=where) from error
