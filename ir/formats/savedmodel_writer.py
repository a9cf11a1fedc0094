"""Models into SavedModels: a folder that TensorFlow, and whatever serves its models, loads.

Weights that were not changed go from the checkpoint they came in to the new one without passing through memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from graphopt.ir.errors import MalformedError, UnsupportedError, UsageError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.atomic import directory_written_atomically
from graphopt.ir.formats.attr_encoding import Piece, message
from graphopt.ir.formats.bundle import BundleCheckpoint, shard_name
from graphopt.ir.formats.bundle_proto import Slice, parse_slice
from graphopt.ir.formats.bundle_slices import assembled
from graphopt.ir.formats.bundle_writer import BundleWriter
from graphopt.ir.formats.checkpoint import OBJECT_GRAPH, Checkpoint
from graphopt.ir.formats.confinement import inside
from graphopt.ir.formats.graphdef_writer import GraphWriter, gathered
from graphopt.ir.formats.metagraph import Carried, node_name
from graphopt.ir.formats.metagraph_writer import MetaGraphWriter, carried_by, saver_is_whole
from graphopt.ir.formats.savedmodel import ASSETS, BINARY, PREFIX, SCHEMA_VERSION, TEXT, VARIABLES, is_savedmodel
from graphopt.ir.formats.savedmodel_objects import Objects, is_frozen, objects_hold, rewritten_objects
from graphopt.ir.formats.savedmodel_saver import (
    Made,
    add_saver,
    describe,
    new_key,
    saved_variables,
    variables_of_constants,
)
from graphopt.ir.formats.savedmodel_variables import restored
from graphopt.ir.model import Model, Variable
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import STRING

FINGERPRINT = "fingerprint.pb"  # checksums of the other files, true only of the files as they were
KERAS = "keras_metadata.pb"  # the layers that the weights belong to, as they were
EXTERNAL = 1 << 16  # bytes from which a constant moves to the checkpoint where the graph is too large for a message
_OWN = frozenset({BINARY, TEXT, VARIABLES, FINGERPRINT})


def is_version(path: str) -> bool:
    """The name is a number, in a folder that holds the versions of a model: what TensorFlow Serving asks for."""
    folder, name = os.path.split(os.path.abspath(path))
    return name.isascii() and name.isdecimal() and os.path.isdir(os.path.dirname(folder))


@contextmanager
def folder_of_version(path: str) -> Iterator[None]:
    """Make the folder that is to hold the version `path` of a model; it goes again if nothing comes into it."""
    folder = os.path.dirname(os.path.abspath(path))
    made = is_version(path) and not os.path.lexists(folder)
    if made:
        os.mkdir(folder)
    try:
        yield
    except BaseException:
        if made:
            os.rmdir(folder)
        raise


class Plan(NamedTuple):
    """What is going to be written: the SavedModel message, and what the checkpoint holds.

    `without_objects` says why there is no object graph, where the model came with one. `all_keys` of the checkpoint
    that the model came with are kept, and `stored` is another object graph for it.
    """

    model: Model
    writer: MetaGraphWriter
    message: list[Piece]
    without_objects: str
    all_keys: bool
    stored: bytes | None


def write_savedmodel(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write `model` as a SavedModel into the new folder `path`, or in place of the one there if `overwrite`.

    The folder appears complete or not at all. A model from a SavedModel keeps its assets and other files, and its
    object graph: variables, tables, signatures, and those of its functions that are still there. Where signatures
    cannot be functions there is no object graph, but signatures, variables, tables and assets remain. What
    Keras says of layers, and MetaGraphs of other tags, are left out where passes computed new weights: for those they
    would be wrong. The folder that is to hold a version of the model, `name/1`, is made. Where the graph would exceed
    protobuf's 2 GiB, large constants become variables.

    Raises `UsageError` where the folder exists, or holds anything but a SavedModel, and `UnsupportedError` for what
    a SavedModel cannot hold.
    """
    target = os.fspath(path)
    if overwrite and os.path.isdir(target) and os.listdir(target) and not is_savedmodel(target):
        raise UsageError(f"{printable(target)} holds something else than a SavedModel, and is not replaced")
    plan = planned(model)
    with folder_of_version(target), directory_written_atomically(target, overwrite=overwrite) as folder:
        with open(os.path.join(folder, BINARY), "wb") as file:
            for piece in plan.message:
                file.write(piece)
        _write_checkpoint(plan, folder)
        _copy_others(plan, folder)


def planned(model: Model, limit: int = wire.MESSAGE_LIMIT) -> Plan:
    """Everything that is to be written of `model`, which stays as it is. `limit` is what a message may take."""
    model = _with_keys(model)
    graph, size = gathered(GraphWriter(model).pieces())
    if size > limit:
        model = model.clone()
        if not variables_of_constants(model, min(EXTERNAL, limit // 16)):
            raise UnsupportedError(f"the graph takes {size} bytes without its variables, and protobuf allows {limit}")
        graph = []
    objects, original = _objects(model), model
    reason = objects if isinstance(objects, str) else ""
    if objects is None:
        model = model.clone()
        made = rewritten_objects(model)
        objects, graph = made, []
        reason = made if isinstance(made, str) else ""
    made_saver, all_keys = None, not is_frozen(original)
    if reason or not _saver_fits(model):  # without objects, collections say which variables there are
        model = model.clone() if model is original else model
        made_saver, graph, all_keys = add_saver(model), [], all_keys and isinstance(objects, Objects)
    if not graph:
        graph, size = gathered(GraphWriter(model).pieces())
        if size > limit:
            raise UnsupportedError(
                f"the graph takes {size} bytes, and protobuf allows {limit}; constants of function bodies stay in it: "
                "inline the functions first"
            )
    found = objects if isinstance(objects, Objects) else Objects(b"")
    writer = _writer(model, made_saver, found.graph)
    content = message(2, writer.pieces(graph))
    before, after = _other_metagraphs(model)
    pieces = [wire.tagged_number(1, SCHEMA_VERSION), *before, *content, *after]
    return Plan(model, writer, pieces, reason, all_keys or bool(before or after), found.stored)


def _other_metagraphs(model: Model) -> tuple[list[Piece], list[Piece]]:
    """The MetaGraphs around this one, as they came: they share its checkpoint.

    None where passes computed new weights, which would be wrong in graphs that they did not rewrite, or froze all.
    """
    carried = carried_by(model)
    if carried is None or is_frozen(model) or any(variable.derived for variable in model.variables.values()):
        return [], []
    first, second = (
        [piece for view in views for piece in message(2, [view])] for views in (carried.before, carried.after)
    )
    return first, second


def _objects(model: Model) -> Objects | str | None:
    """The object graph as it came, if it still holds; empty text where there was none; None where it does not hold."""
    carried = carried_by(model)
    if carried is None or carried.objects is None:
        return ""
    return Objects(carried.meta.object_graph) if objects_hold(model) else None


def _with_keys(model: Model) -> Model:
    """`model`, or a copy of it in which variables that came from nowhere have a place in the checkpoint."""
    carried = carried_by(model)
    bound = carried.bound if carried is not None else {}
    new = [name for name, item in model.variables.items() if item.value is not None and not item.checkpoint_key]
    new = [name for name in new if name not in bound]
    if not new:
        return model
    model = model.clone()
    for name in new:
        model.variables[name].checkpoint_key = new_key(model, name)
    return model


def _writer(model: Model, made: Made | None, objects: bytes) -> MetaGraphWriter:
    if made is None:
        return MetaGraphWriter(model, objects=objects)
    return MetaGraphWriter(model, made.saver, {} if objects else made.definitions, objects)


def _saver_fits(model: Model) -> bool:
    """The model's own saver is whole, and restores each variable from where it stands; or there is nothing to save."""
    carried = carried_by(model)
    saver = carried.meta.saver if carried is not None else None
    wanted = {name: (item.checkpoint_key, item.checkpoint_slice) for name, item in saved_variables(model).items()}
    if saver is None or not saver_is_whole(model.graph, saver):
        return not wanted
    found = restored(model, model.graph.find(node_name(saver.restore)))
    return all(name in found and tuple(found[name]) == source for name, source in wanted.items())


# Checkpoint ---------------------------------------------------------------------------------------------------


def _write_checkpoint(plan: Plan, folder: str) -> None:
    model, carried = plan.model, carried_by(plan.model)
    source = carried.checkpoint if carried is not None else None
    groups = _grouped(model, carried)
    if source is None and not groups:
        return
    os.mkdir(os.path.join(folder, VARIABLES))
    prefix = os.path.join(folder, PREFIX)
    _write_copies(model, carried, groups)
    changed = {key for key, items in groups.items() if any(_is_changed(item, carried) for item in items)}
    is_same = plan.all_keys and not changed and source is not None and all(key in source for key in groups)
    is_same = is_same and plan.stored is None
    if is_same and isinstance(source, BundleCheckpoint):
        _copy_checkpoint(source, prefix)
        return
    with BundleWriter(prefix) as writer:
        for key in sorted({*groups, *(source.names if source is not None else ())}):
            if key == OBJECT_GRAPH and plan.stored is not None:
                writer.add(key, tensor(np.array(plan.stored, dtype=object), STRING))
            elif source is not None and key in source and key not in changed:
                if plan.all_keys or key in groups or (key == OBJECT_GRAPH and plan.writer.objects):
                    _carry(writer, key, source)
            elif key in groups:
                _write_group(writer, key, groups[key], source)


def _grouped(model: Model, carried: Carried | None) -> dict[str, list[Variable]]:
    """Key of the checkpoint -> the variables that stand there: several where one is partitioned."""
    groups: dict[str, list[Variable]] = {}
    present = saved_variables(model)
    for name, variable in model.variables.items():
        if name in present:
            groups.setdefault(variable.checkpoint_key, []).append(variable)
        elif carried is not None and carried.bound.get(name) is not variable.value:
            raise UnsupportedError(
                f"variable {describe(variable)} has a new value, and is not restored from a checkpoint: "
                "its initialiser would overwrite it"
            )
    for variables in groups.values():
        for variable in variables:
            if variable.value is None:
                raise UnsupportedError(f"variable {describe(variable)} has no value to write")
    return groups


def _write_copies(model: Model, carried: Carried | None, groups: dict[str, list[Variable]]) -> None:
    """Let a variable with a new value stand for all its keys of the checkpoint."""
    for name, key in carried.keys.items() if carried is not None else ():
        variable = model.variables.get(name)
        if variable is not None and variable.value is not None and _is_changed(variable, carried):
            groups[key] = [variable]


def _is_changed(variable: Variable, carried: Carried | None) -> bool:
    return carried is None or carried.bound.get(variable.name) is not variable.value


def _carry(writer: BundleWriter, key: str, source: Checkpoint) -> None:
    if isinstance(source, BundleCheckpoint):
        writer.copy(key, source)
    else:
        writer.add(key, source.tensor(key))


def _write_group(writer: BundleWriter, key: str, variables: list[Variable], source: Checkpoint | None) -> None:
    if not variables[0].checkpoint_slice:
        assert variables[0].value is not None
        writer.add(key, variables[0].value)
        return
    parts: dict[Slice, Tensor] = {}
    shape: tuple[int, ...] = ()
    for variable in variables:
        assert variable.value is not None
        shape, extents = parse_slice(variable.checkpoint_slice)
        parts[extents] = variable.value
    if source is not None and key in source:
        _add_missing(parts, key, source)
    assembled(variables[0].dtype, shape, list(parts.items()))  # says what is wrong where they do not make a whole
    for extents, part in parts.items():
        writer.add_slice(key, shape, extents, part)


def _add_missing(parts: dict[Slice, Tensor], key: str, source: Checkpoint) -> None:
    """Slices of the source that no variable of the model stands for."""
    for extents in source.slices_of(key):
        if extents not in parts:
            spec = ":".join("-" if length < 0 else f"{first},{length}" for first, length in extents)
            parts[extents] = source.tensor(key, " ".join([*map(str, source.shape(key)), spec]))


def _copy_checkpoint(source: BundleCheckpoint, prefix: str) -> None:
    count = source.header.shards
    names = [f"{source.base}.index", *(shard_name(source.base, number, count) for number in range(count))]
    base = os.path.basename(prefix)
    for name in names:
        path = inside(source.folder or ".", name)
        if os.path.exists(path):
            shutil.copyfile(path, os.path.join(os.path.dirname(prefix), base + name[len(source.base) :]))


# Other files --------------------------------------------------------------------------------------------------


def _copy_others(plan: Plan, folder: str) -> None:
    """Assets that are still needed, and every file of the source that nobody here knows."""
    carried = carried_by(plan.model)
    if carried is None or not carried.root:
        return
    root = carried.root
    dropped = {asset.filename for asset in carried.assets} - {asset.filename for asset in plan.writer.assets()}
    is_derived = any(variable.derived for variable in plan.model.variables.values())
    if carried.before or carried.after:  # which may need them
        dropped = set()
    for name in _files(root):
        parts = name.split("/")
        if parts[0] in _OWN or (parts[0] == ASSETS and "/".join(parts[1:]) in dropped):
            continue
        if name == KERAS and is_derived:
            continue
        target = os.path.join(folder, *parts)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _copy_file(inside(root, name), target)
    if _is_unchanged(root, folder, carried):
        _copy_file(inside(root, FINGERPRINT), os.path.join(folder, FINGERPRINT))


def _copy_file(source: str, target: str) -> None:
    if not os.path.isfile(source):
        raise MalformedError("is no regular file, and cannot be carried along", source=source)
    shutil.copyfile(source, target)


def _files(root: str) -> Iterator[str]:
    """Every file below `root`, relative to it, in a fixed order; links to folders are not followed."""
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _is_unchanged(root: str, folder: str, carried: Carried) -> bool:
    """The fingerprint of the source is also that of what was written."""
    old, new = os.path.join(root, BINARY), os.path.join(folder, BINARY)
    if not os.path.isfile(os.path.join(root, FINGERPRINT)) or not os.path.isfile(old):
        return False
    if os.path.getsize(old) != os.path.getsize(new) or carried.checkpoint is None:
        return False
    with open(inside(root, BINARY), "rb") as before, open(new, "rb") as after:
        while chunk := before.read(1 << 20):
            if chunk != after.read(1 << 20):
                return False
    return True
