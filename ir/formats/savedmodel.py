"""SavedModels, of both versions, read from their folder without TensorFlow.

    model = read_savedmodel("exported")
    model.signatures["serving_default"].input_values()
    model.variables["dense/kernel"].value      # a view of variables/variables.data-00000-of-00001

Nothing outside the folder is opened, whatever the model names.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.checkpoint import open_checkpoint
from graphopt.ir.formats.confinement import inside, map_inside
from graphopt.ir.formats.metagraph import METADATA, model_of
from graphopt.ir.formats.metagraph_proto import Asset, read_metagraph, read_tags
from graphopt.ir.model import Model
from graphopt.ir.tensors import Mapping

BINARY, TEXT = "saved_model.pb", "saved_model.pbtxt"
VARIABLES, ASSETS = "variables", "assets"
PREFIX = f"{VARIABLES}/{VARIABLES}"
SERVE = ("serve",)
SCHEMA_VERSION = 1


def is_savedmodel(path: str | os.PathLike[str]) -> bool:
    """`path` is a folder that holds a SavedModel."""
    return any(os.path.isfile(os.path.join(path, name)) for name in (BINARY, TEXT))


def read_savedmodel(
    path: str | os.PathLike[str], *, tags: Collection[str] | None = None, verify: bool = True, saves: bool = True
) -> Model:
    """The model in the folder `path`, or the MetaGraph of it whose tags are `tags`.

    Without `tags` the only MetaGraph is taken, or the one for serving; the others are carried as they are, for when
    the model is written. `verify` compares the checksums of all weights; without `saves` what saves variables is left
    out. Raises `UsageError`, listing the tags there are, where it cannot be told which is meant, and `MalformedError`
    for what is missing, damaged or contradicts itself.
    """
    root = os.fspath(path)
    mapping = _map(root)
    try:
        spans = _metagraphs(mapping)
        place = _chosen([read_tags(mapping.buffer, *span) for span in spans], tags, root)
        start, stop = spans[place]
        meta = read_metagraph(mapping.buffer, start, stop)
    except MalformedError as error:
        raise error.located(mapping.path) from None
    checkpoint = None
    if os.path.lexists(os.path.join(root, f"{PREFIX}.index")):
        inside(root, VARIABLES)
        checkpoint = open_checkpoint(os.path.join(root, PREFIX))
    model = model_of(mapping, meta, checkpoint, verify=verify, saves=saves)
    carried = model.metadata[METADATA]
    carried.root = os.path.abspath(root)
    carried.before = [mapping.view[first:last] for first, last in spans[:place]]
    carried.after = [mapping.view[first:last] for first, last in spans[place + 1 :]]
    for asset in carried.assets:
        _check_asset(root, asset)
    if checkpoint is None:
        _require_no_variables(model, root)
    model.source, model.format = root, "savedmodel"
    return model


def _map(root: str) -> Mapping:
    """The SavedModel message of the folder, binary or made of text."""
    for name in (BINARY, TEXT):
        if os.path.lexists(os.path.join(root, name)):
            mapping = map_inside(root, name)
            if not len(mapping):
                raise MalformedError("the file is empty", source=mapping.path)
            if name == TEXT:
                from graphopt.ir.formats.savedmodel_text import text_to_binary

                return Mapping(mapping.path, text_to_binary(bytes(mapping.view), "SavedModel", mapping.path))
            return mapping
    raise MalformedError(f"holds no SavedModel: neither {BINARY} nor {TEXT} is there", source=root)


def _metagraphs(mapping: Mapping) -> list[tuple[int, int]]:
    spans = []
    for tag, value, stop in wire.fields(mapping.buffer, 0, len(mapping)):
        if tag == 0x08:
            if wire.signed(value) > SCHEMA_VERSION:
                raise MalformedError(f"a SavedModel of version {value}; versions up to {SCHEMA_VERSION} are known")
        elif tag == 0x12:
            spans.append((value, stop))
        else:
            wire.unexpected(tag, {1: "saved_model_schema_version", 2: "meta_graphs"}, value)
    if not spans:
        raise MalformedError("the SavedModel has no MetaGraph", field="meta_graphs")
    return spans


def _chosen(sets: list[tuple[str, ...]], tags: Collection[str] | None, root: str) -> int:
    """Place of the MetaGraph that `tags` mean among those tagged `sets`."""
    listed = "; ".join(",".join(printable(tag) for tag in sorted(found)) or "(none)" for found in sets)
    wanted = frozenset((tags,) if isinstance(tags, str) else tags) if tags is not None else frozenset(SERVE)
    places = [place for place, found in enumerate(sets) if frozenset(found) == wanted]
    if len(places) == 1:
        return places[0]
    if tags is None and len(sets) == 1:
        return 0
    if len(places) > 1:
        raise MalformedError(f"{len(places)} MetaGraphs have the same tags", field="meta_graphs")
    asked = ",".join(printable(tag) for tag in sorted(wanted))
    what = "holds several MetaGraphs" if tags is None else f"has no MetaGraph tagged {asked or '(none)'}"
    raise UsageError(f"{printable(root)} {what}: choose one by its tags, of {listed}")


def _check_asset(root: str, asset: Asset) -> None:
    """Raise `MalformedError` unless the file of `asset` is there, inside the folder."""
    name = f"{ASSETS}/{asset.filename}"
    if os.path.isabs(asset.filename):
        name = asset.filename
    path = inside(root, name)
    if not os.path.isfile(path):
        raise MalformedError(f"the asset '{printable(name)}' is missing", source=root, field="asset_file_def")


def _require_no_variables(model: Model, root: str) -> None:
    """Raise `MalformedError` where a model restores variables and has no checkpoint: a folder written only by half."""
    saver = model.metadata[METADATA].meta.saver
    waiting = [name for name, variable in model.variables.items() if variable.value is None]
    if saver is not None and waiting:
        raise MalformedError(
            f"{PREFIX}.index is missing, and the model has variables ('{printable(waiting[0])}'): "
            "the folder is incomplete",
            source=root,
        )
