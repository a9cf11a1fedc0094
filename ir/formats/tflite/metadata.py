"""Metadata in a model: TFLite Metadata with the files it speaks of, conversion metadata, the runtime that is needed.

They are stored as others store them, so that other readers of TFLite Metadata open what is written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.formats.tflite.archive import file_content, file_names, packed_files
from graphopt.ir.formats.tflite.metadata_types import CLASSES, ConversionMetadata, Metadata
from graphopt.ir.formats.tflite.plain_tables import packed_table, plain_table
from graphopt.ir.formats.tflite.records import KEY, NEW_MODEL, RUNTIME, MetadataRecord, ModelRecord
from graphopt.ir.formats.tflite.schema import table
from graphopt.ir.model import Model

METADATA, CONVERSION = b"TFLITE_METADATA", b"CONVERSION_METADATA"
IDENTIFIER = b"M001"
_UNIT = "ProcessUnit"  # a table that holds nothing but its options
# What the schema got after its first version: table, field, value (None for any) -> version.
_SINCE: Mapping[tuple[str, str, Any], tuple[int, int, int]] = {
    ("AssociatedFile", "type", "VOCABULARY"): (1, 0, 1),
    ("SubGraphMetadata", "input_process_units", None): (1, 1, 0),
    ("SubGraphMetadata", "output_process_units", None): (1, 1, 0),
    (_UNIT, "options_type", "BertTokenizerOptions"): (1, 1, 0),
    (_UNIT, "options_type", "SentencePieceTokenizerOptions"): (1, 1, 0),
    ("SubGraphMetadata", "input_tensor_groups", None): (1, 2, 0),
    ("SubGraphMetadata", "output_tensor_groups", None): (1, 2, 0),
    (_UNIT, "options_type", "RegexTokenizerOptions"): (1, 2, 1),
    ("Content", "content_properties_type", "AudioProperties"): (1, 3, 0),
    ("AssociatedFile", "type", "SCANN_INDEX_FILE"): (1, 4, 0),
    ("AssociatedFile", "version", None): (1, 4, 1),
    ("SubGraphMetadata", "custom_metadata", None): (1, 5, 0),
}


def attach_metadata(
    model: Model, metadata: Metadata | Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> Metadata:
    """Put `metadata` into a TFLite model, instead of what it had, and pack `files` behind it, beside those it has.

    `metadata` are the classes of `metadata_types`, or the same as JSON has it. Returns what was attached, with
    `min_parser_version`. Raises `UsageError` for a field or a value that the schema does not have, for inputs or
    outputs that are more or fewer than the model's, and for a file that the metadata name and nobody gives.
    """
    described = plain_of(metadata) if isinstance(metadata, Metadata) else dict(metadata)
    described["min_parser_version"] = ".".join(map(str, max(_versions("ModelMetadata", described))))
    data = packed_table("ModelMetadata", described, IDENTIFIER)
    found: Metadata = _decoded("ModelMetadata", data)
    _check_counts(model, found)
    record = _record(model)
    packed = {name: file_content(record.archive, name) for name in file_names(record.archive)} | dict(files or {})
    missing = [name for name in found.file_names() if name not in packed]
    if missing:
        raise UsageError(
            f"the metadata name the file '{printable(missing[0])}', which is not among those to pack:"
            f" {printable(', '.join(packed)) or 'there are none'}"
        )
    model.metadata[KEY] = _with(record, METADATA, data)._replace(archive=packed_files(packed))
    return found


def read_metadata(model: Model) -> Metadata | None:
    """The TFLite Metadata of a model; None where it has none. Raises `MalformedError`."""
    data = _held(model, METADATA)
    found: Metadata | None = None if data is None else _decoded("ModelMetadata", data)
    return found


def remove_metadata(model: Model) -> None:
    """Take TFLite Metadata and packed files out of a model."""
    record = _record(model)
    kept = tuple(item for item in record.metadata if item.name != METADATA)
    model.metadata[KEY] = record._replace(metadata=kept, archive=None)


def associated_files(model: Model) -> tuple[str, ...]:
    """Names of the files that are packed into the model. Raises `MalformedError`."""
    return file_names(_record(model).archive)


def associated_file(model: Model, name: str) -> bytes:
    """The content of a packed file. Raises `UsageError` where there is none of the name, `MalformedError`."""
    return file_content(_record(model).archive, name)


def attach_conversion_metadata(model: Model, metadata: ConversionMetadata) -> None:
    """Say where the model comes from and how it was converted. Raises `UsageError` for what the schema refuses."""
    data = packed_table("ConversionMetadata", plain_of(metadata), b"")
    model.metadata[KEY] = _with(_record(model), CONVERSION, data)


def read_conversion_metadata(model: Model) -> ConversionMetadata | None:
    """The conversion metadata of a model; None where it has none. Raises `MalformedError`."""
    data = _held(model, CONVERSION)
    found: ConversionMetadata | None = None if data is None else _decoded("ConversionMetadata", data)
    return found


def state_runtime(model: Model) -> None:
    """Have the file say which TensorFlow Lite runtime it needs at least; counted when it is written."""
    model.metadata[KEY] = _with(_record(model), RUNTIME, b"")


# Classes and plain data -----------------------------------------------------------------------------------------


def plain_of(item: Any) -> dict[str, Any]:
    """One of the metadata's classes as plain data: what JSON has, but for bytes."""
    schema = table(item.TABLE)
    found: dict[str, Any] = {}
    for field in fields(item):
        value, kind = getattr(item, field.name), schema.by_name[field.name]
        if value == field.default or (value == () and field.default is MISSING):
            continue
        if kind.is_union:
            found[f"{field.name}_type"] = value.TABLE
        if kind.kind == _UNIT:
            found[field.name] = [{"options_type": unit.TABLE, "options": plain_of(unit)} for unit in value]
        else:
            found[field.name] = _plain_value(value)
    return found


def metadata_of(plain: Mapping[str, Any]) -> Metadata:
    """The metadata that plain data, JSON say, describe. Raises `UsageError`, naming the field at fault."""
    found: Metadata = _decoded("ModelMetadata", packed_table("ModelMetadata", plain, IDENTIFIER))
    return found


def _plain_value(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain_value(item) for item in value]
    return plain_of(value) if hasattr(value, "TABLE") else value


def object_of(name: str, plain: Mapping[str, Any]) -> Any:
    """The inverse of `plain_of`, for data that the schema allows."""
    schema, made = table(name), {}
    for key, value in plain.items():
        field = schema.by_name[key]
        if field.is_union:
            made[key] = object_of(plain[f"{key}_type"], value)
        elif field.kind == _UNIT:
            made[key] = tuple(object_of(unit["options_type"], unit["options"]) for unit in value if "options" in unit)
        elif field.kind in CLASSES:
            held = tuple(object_of(field.kind, item) for item in value) if field.is_vector else None
            made[key] = held if field.is_vector else object_of(field.kind, value)
        elif not (key.endswith("_type") and key[:-5] in plain):
            made[key] = tuple(value) if isinstance(value, list) else value
    return CLASSES[name](**made)


def _decoded(name: str, data: bytes | memoryview) -> Any:
    return object_of(name, plain_table(name, memoryview(data)))


def _versions(name: str, plain: Any) -> Iterator[tuple[int, int, int]]:
    """Versions of the schema that the fields in use came with."""
    yield (1, 0, 0)
    if not isinstance(plain, Mapping):
        return
    schema = table(name)
    for key, value in plain.items():
        field = schema.by_name.get(key)
        if field is None or value is None:
            continue
        yield _SINCE.get((name, key, None), (1, 0, 0))
        if isinstance(value, str):
            yield _SINCE.get((name, key, value), (1, 0, 0))
        kind = str(plain.get(f"{key}_type")) if field.is_union else field.kind
        if kind in CLASSES or kind == _UNIT:
            for item in value if isinstance(value, (list, tuple)) else (value,):
                yield from _versions(kind, item)


def _check_counts(model: Model, metadata: Metadata) -> None:
    graphs = list(model.graphs)
    for place, described in enumerate(metadata.subgraph_metadata):
        if place >= len(graphs):
            raise UsageError(f"the metadata describe {place + 1} subgraphs, and the model has {len(graphs)}")
        for word, listed, values in (
            ("inputs", described.input_tensor_metadata, graphs[place].inputs),
            ("outputs", described.output_tensor_metadata, graphs[place].outputs),
        ):
            if listed and len(listed) != len(values):
                raise UsageError(
                    f"the metadata describe {len(listed)} {word}, and '{printable(graphs[place].name)}' has"
                    f" {len(values)}: {printable(', '.join(value.name for value in values))}"
                )


# Records --------------------------------------------------------------------------------------------------------


def _record(model: Model) -> ModelRecord:
    record = model.metadata.get(KEY)
    return record if isinstance(record, ModelRecord) else NEW_MODEL


def _with(record: ModelRecord, name: bytes, data: bytes) -> ModelRecord:
    """The record with one piece of metadata, at the place where one of that name was."""
    item = MetadataRecord(name, data)
    names = [held.name for held in record.metadata]
    place = names.index(name) if name in names else len(names)
    kept = [held for held in record.metadata if held.name != name]
    return record._replace(metadata=(*kept[:place], item, *kept[place:]))


def _held(model: Model, name: bytes) -> memoryview | None:
    found = next((item for item in _record(model).metadata if item.name == name), None)
    if found is None:
        return None
    if not found.data:
        raise MalformedError("there are no bytes", field=f"Model.metadata[{name.decode()}]")
    return memoryview(found.data)
