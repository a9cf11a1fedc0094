"""Telling a file that is something else by its first bytes, so that errors can say what to do."""

from __future__ import annotations

import codecs

from graphopt.ir.errors import MalformedError

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (
        b"PK\x03\x04",
        "a ZIP archive, as .keras, .npz and .zip files are: export the model as a SavedModel or graph first",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras saves .h5: export the model as a SavedModel or graph first"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"GGUF", "a GGUF file, which is no TensorFlow model"),
    (b"\x80\x02", "a Python pickle, which is never opened because it can run code"),
    (b"\x80\x04", "a Python pickle, which is never opened because it can run code"),
    (b"\x93NUMPY", "a NumPy array, which is no model"),
    (b"ML\xefR", "MLIR bytecode: export a GraphDef or a SavedModel instead"),
    (b"\x7fELF", "an executable, which is no model"),
    (b"\x89PNG", "a picture, which is no model"),
    (b"%PDF", "a PDF document, which is no model"),
    (b"\xff\xfe", "UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text: save it as UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull` to fetch the model itself"),
)
_SSTABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_CONTROL = bytes(octet for octet in range(32) if octet not in b"\t\n\r\f\v") + b"\x7f"


def looks_like(head: bytes, tail: bytes = b"") -> str:
    """What a file that is no GraphDef seems to be, with the remedy; empty if nothing is recognised."""
    for magic, meaning in _MAGIC:
        if head.startswith(magic):
            return meaning
    if head[2:8] == b"\0\0TFL3":  # a node may be called TFL3, but nodes do not begin with zeros
        return "a TensorFlow Lite model, which is read under the suffix .tflite"
    if tail.endswith(_SSTABLE_MAGIC):
        return "the index of a checkpoint, which holds values without a graph: give the SavedModel or the .meta file"
    if head[:2] == b"\x08\x01" and head[2:3] == b"\x12":
        return "a saved_model.pb: give the SavedModel's directory"
    if head[:1] == b"\x08":
        return "an ONNX model, which is not read"
    if not any(head[:4096].strip(b"\0")):
        return "nothing but zeros: the file was not written to its end"
    return ""


def is_text(head: bytes) -> bool:
    """The first bytes of a file are UTF-8 without control characters, which every serialised node has."""
    if not head or len(head.translate(None, _CONTROL)) != len(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def refuse_others(head: bytes, tail: bytes, source: str) -> None:
    """Raise `MalformedError` for an empty file or one that is recognisably something else."""
    if not head:
        raise MalformedError("the file is empty", source=source)
    found = looks_like(head, tail)
    if found:
        raise MalformedError(f"this is not a GraphDef; it looks like {found}", source=source)
