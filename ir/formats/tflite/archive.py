"""The files behind a model: a ZIP archive that ends where the `.tflite` file ends, so that readers of either open it.

Offsets in the archive count from the start of the file. An archive that was read is kept byte for byte, but for these
offsets; one that gets new files is written anew, without compression and without dates, so that equal files give equal
bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from graphopt.ir.errors import MalformedError, ResourceError, UnsupportedError, UsageError, printable

if TYPE_CHECKING:
    import zipfile  # at run time only where files are packed or asked for

_END, _ENTRY = b"PK\5\6", b"PK\1\2"
_END_SIZE, _ENTRY_SIZE = 22, 46
_COMMENT = 0xFFFF  # bytes a comment may have behind the end record
_LIMIT = 1 << 30  # bytes of one file that was compressed
_DATE = (1980, 1, 1, 0, 0, 0)
_BEYOND = 0xFFFFFFFF


class Archive(NamedTuple):
    """The bytes of an archive, where in the file they began, and how far into it their offsets count from."""

    data: bytes | memoryview
    start: int
    base: int = 0


def find_archive(view: memoryview) -> Archive | None:
    """The archive at the end of a file; None where there is none, or none that can be followed."""
    tail = bytes(view[max(len(view) - _END_SIZE - _COMMENT, 0) :])
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_SIZE:
        return None
    size, offset, comment = struct.unpack_from("<IIH", tail, place + 12)
    end = len(view) - len(tail) + place
    base = end - size - offset
    if place + _END_SIZE + comment != len(tail) or base < 0 or offset == _BEYOND:
        return None
    starts = [struct.unpack_from("<I", view, entry + 42)[0] for entry in _entries(view, base + offset, end)]
    start = base + min([*starts, offset])
    count = struct.unpack_from("<H", tail, place + 10)[0]
    is_sound = start > 0 and len(starts) == count and max([*starts, offset]) == offset
    return Archive(view[start:], start, base) if is_sound else None


def _entries(data: bytes | bytearray | memoryview, place: int, end: int) -> list[int]:
    """Where the entries of the central directory stand; as many as are in bounds."""
    found = []
    while place + _ENTRY_SIZE <= end and bytes(data[place : place + 4]) == _ENTRY:
        found.append(place)
        place += _ENTRY_SIZE + sum(struct.unpack_from("<HHH", data, place + 28))
    return found


def moved(archive: Archive, start: int) -> bytes:
    """The bytes of the archive for a file in which it begins at `start`. Raises `UnsupportedError` beyond 4 GiB."""
    data = bytearray(archive.data)
    place = data.rfind(_END)
    offset = struct.unpack_from("<I", data, place + 16)[0]
    shift = start - archive.start + archive.base
    if start + len(data) >= _BEYOND:
        raise UnsupportedError("the model takes over 4 GiB, and files cannot be packed behind it")
    for entry in _entries(data, offset + archive.base - archive.start, place):
        held = struct.unpack_from("<I", data, entry + 42)[0]
        struct.pack_into("<I", data, entry + 42, held + shift)
    struct.pack_into("<I", data, place + 16, offset + shift)
    return bytes(data)


def packed_files(files: Mapping[str, bytes]) -> Archive | None:
    """An archive of the files, in order; None of none. Raises `UsageError` for a name that no file may have."""
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            parts = name.replace("\\", "/").split("/")
            if not name or "" in parts or ".." in parts or not name.isprintable():
                raise UsageError(f"'{printable(name)}' is no name for a file in a model")
            item = zipfile.ZipInfo(name, _DATE)
            item.create_system, item.external_attr = 3, 0o644 << 16
            archive.writestr(item, content)
    return Archive(out.getvalue(), 0) if files else None


def file_names(archive: Archive | None) -> tuple[str, ...]:
    """Names of the files, in the archive's order. Raises `MalformedError`."""
    return tuple(item.filename for item in _opened(archive).infolist()) if archive is not None else ()


def file_content(archive: Archive | None, name: str) -> bytes:
    """The content of a file. Raises `UsageError` where none has the name, `MalformedError` for a damaged one."""
    import zipfile
    import zlib

    opened = _opened(archive) if archive is not None else None
    if opened is None or name not in opened.namelist():
        known = ", ".join(opened.namelist()) if opened is not None else "none"
        raise UsageError(f"no file '{printable(name)}' is packed into the model; there are: {printable(known)}")
    if opened.getinfo(name).file_size > _LIMIT:
        raise ResourceError(f"the file '{printable(name)}' in the model is over {_LIMIT} bytes")
    try:
        return opened.read(name)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OSError,
        struct.error,
    ) as error:
        raise MalformedError(f"the file '{printable(name)}' in the model is damaged: {error}") from None


def _opened(archive: Archive) -> zipfile.ZipFile:
    import zipfile

    try:
        # Python finds the archive from its end and takes what lies before it for a prefix.
        return zipfile.ZipFile(io.BytesIO(bytes(archive.data)))
    except (zipfile.BadZipFile, ValueError, UnicodeDecodeError, NotImplementedError, struct.error) as error:
        raise MalformedError(f"the archive behind the model is damaged: {error}") from None
