"""Byte mutants of serialised messages: blind edits, and edits of fields that keep what stands around them valid.

Its own small parser, so that a fault of the reader under test is not repeated here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

NUMBERS = (0, 1, 2, 3, 7, 100, 101, 127, 128, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
           1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
TEXTS = (b"", b"^", b"^a", b":", b"a:0", b"a:1", b"a:65536", b"a:9999999999", b"x" * 300, b"x" * 70000, b"\xff\xfe",
         b"\0", b"\xe2\x80\xae", b"\x1b[2J", b"_Arg", b"Const", b"NoOp", b"Identity", b"NextIteration", b"value",
         b"dtype", b"T", b"N")  # fmt: skip
LIMIT = 1 << 18  # bytes of a mutant


class Field(NamedTuple):
    """One field: its tag, the whole of it and the place of its content within a message."""

    tag: int
    start: int
    content: int
    stop: int


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place` and the place after it. Raises `ValueError` where there is none."""
    result = shift = 0
    while place < len(data) and shift < 70:
        octet = data[place]
        place += 1
        result |= (octet & 0x7F) << shift
        if octet < 0x80:
            return result, place
        shift += 7
    raise ValueError("no varint")


def varint(number: int) -> bytes:
    """A number of up to 64 bits as protobuf writes it."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(encoded) + bytes([number])


def split(data: bytes) -> list[Field]:
    """The fields of a message. Raises `ValueError` for what is none."""
    fields, place = [], 0
    while place < len(data):
        start = place
        tag, place = read_varint(data, place)
        kind, content = tag & 7, place
        if tag < 8 or kind in (3, 4, 6, 7):
            raise ValueError("no tag")
        if kind == 0:
            _, place = read_varint(data, place)
        elif kind == 2:
            size, content = read_varint(data, place)
            place = content + size
        else:
            place += 8 if kind == 1 else 4
        if place > len(data):
            raise ValueError("cut")
        fields.append(Field(tag, start, content, place))
    return fields


def field(tag: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(tag) + varint(len(content)) + content


class ByteMutator:
    """Makes mutants of `pool`, whose first files are chosen most often."""

    def __init__(self, pool: Sequence[bytes]):
        self.pool = pool
        self.flat: tuple[Callable[[random.Random, bytes], bytes], ...] = (
            self.flip, self.flip, self.put, self.cut_out, self.insert, self.truncate, self.splice, self.exchange,
        )  # fmt: skip
        self.structured: tuple[Callable[[random.Random, bytes, list[Field]], bytes], ...] = (
            self.drop, self.duplicate, self.swap, self.renumber, self.tweak, self.tweak, self.lie,
            self.transplant, self.nest,
        )  # fmt: skip

    def choose(self, rng: random.Random) -> bytes:
        """A file of the pool."""
        return self.pool[int(len(self.pool) * rng.random() ** 3)]

    def mutant(self, rng: random.Random) -> bytes:
        """One mutant."""
        data = self.choose(rng)
        blind = rng.random() < 0.3
        for _ in range(1 + int(rng.expovariate(1.2))):
            if blind:
                data = rng.choice(self.flat)(rng, data)
            else:
                data = self.within(rng, data, 0)
        return data[:LIMIT]

    def within(self, rng: random.Random, data: bytes, depth: int) -> bytes:
        """Edit a random field at a random depth; everything around it keeps consistent lengths."""
        try:
            fields = split(data)
        except ValueError:
            fields = []
        if not fields:
            return rng.choice(self.flat)(rng, data)
        if depth < 12 and rng.random() < 0.8:
            chosen = rng.choice(fields)
            if chosen.tag & 7 == 2 and chosen.stop > chosen.content:
                content = self.within(rng, data[chosen.content : chosen.stop], depth + 1)
                return data[: chosen.start] + field(chosen.tag, content) + data[chosen.stop :]
        return rng.choice(self.structured)(rng, data, fields)

    # Blind ----------------------------------------------------------------------------------------------------

    def flip(self, rng: random.Random, data: bytes) -> bytes:
        if not data:
            return data
        place = rng.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]

    def put(self, rng: random.Random, data: bytes) -> bytes:
        place = rng.randrange(len(data) + 1)
        put = rng.choice((rng.randbytes(1), b"\xff", b"\0", varint(rng.choice(NUMBERS)), rng.randbytes(4)))
        return data[:place] + put + data[place + len(put) :]

    def cut_out(self, rng: random.Random, data: bytes) -> bytes:
        start, stop = self.span(rng, data)
        return data[:start] + data[stop:]

    def insert(self, rng: random.Random, data: bytes) -> bytes:
        place = rng.randrange(len(data) + 1)
        source = data if rng.random() < 0.5 else self.choose(rng)
        start, stop = self.span(rng, source)
        piece = rng.choice((source[start:stop], rng.choice(TEXTS), varint(rng.choice(NUMBERS))))
        return data[:place] + piece + data[place:]

    def truncate(self, rng: random.Random, data: bytes) -> bytes:
        return data[: rng.randrange(len(data) + 1)]

    def splice(self, rng: random.Random, data: bytes) -> bytes:
        other = self.choose(rng)
        return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]

    def exchange(self, rng: random.Random, data: bytes) -> bytes:
        a, b = self.span(rng, data)
        return data[:a] + data[b : b + b - a] + data[a:b] + data[b + b - a :]

    def span(self, rng: random.Random, data: bytes) -> tuple[int, int]:
        start = rng.randrange(len(data) + 1)
        return start, min(len(data), start + int(rng.expovariate(0.05)) + 1)

    # Fields ---------------------------------------------------------------------------------------------------

    def drop(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        chosen = rng.choice(fields)
        return data[: chosen.start] + data[chosen.stop :]

    def duplicate(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        chosen, place = rng.choice(fields), rng.choice(fields).start
        times = 1 if rng.random() < 0.95 else rng.randrange(2, 300)
        return data[:place] + data[chosen.start : chosen.stop] * times + data[place:]

    def swap(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        a, b = sorted((rng.choice(fields), rng.choice(fields)), key=lambda item: item.start)
        if a is b:
            return data
        parts = data[: a.start], data[b.start : b.stop], data[a.stop : b.start], data[a.start : a.stop], data[b.stop :]
        return b"".join(parts)

    def renumber(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        chosen = rng.choice(fields)
        if rng.random() < 0.8:
            number = rng.choice((rng.randrange(1, 20), rng.randrange(1, 20), 1 << 28, (1 << 29) - 1))
            tag = number << 3 | chosen.tag & 7
        else:
            tag = chosen.tag & ~7 | rng.randrange(8)
        after = read_varint(data, chosen.start)[1]
        return data[: chosen.start] + varint(tag) + data[after:]

    def tweak(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        """Another value of the same kind."""
        chosen = rng.choice(fields)
        old = data[chosen.content : chosen.stop]
        kind = chosen.tag & 7
        if kind == 0:
            number = read_varint(old, 0)[0]
            near = (number + rng.choice((-1, 1, 2, 100))) & (1 << 64) - 1
            new = varint(rng.choice((near, rng.choice(NUMBERS), rng.randrange(40), rng.getrandbits(64))))
            if rng.random() < 0.05:
                new = bytes([new[-1] | 0x80]).join((new[:-1], b"\x80" * rng.randrange(12) + b"\0"))
            return data[: chosen.content] + new + data[chosen.stop :]
        if kind != 2:
            return data[: chosen.content] + rng.randbytes(len(old)) + data[chosen.stop :]
        new = rng.choice((
            rng.choice(TEXTS), old[:-1], old + b"\0", old * 2, b"^" + old, old + b":1", rng.randbytes(len(old)),
            self.flip(rng, old), self.flip(rng, old),
        ))  # fmt: skip
        return data[: chosen.start] + field(chosen.tag, new) + data[chosen.stop :]

    def lie(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        """Announce another length than there is."""
        chosen = rng.choice(fields)
        if chosen.tag & 7 != 2:
            return self.tweak(rng, data, fields)
        size = chosen.stop - chosen.content
        announced = rng.choice((size + 1, max(size - 1, 0), size * 2, 0, rng.choice(NUMBERS)))
        start = data[: chosen.start] + varint(chosen.tag) + varint(announced)
        return start + data[chosen.content :]

    def transplant(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        """Content of another field, of this message or of some file, in place of a field's own."""
        chosen = rng.choice(fields)
        source = data
        for _ in range(rng.randrange(1, 5)):
            try:
                found = rng.choice(split(source))
            except (ValueError, IndexError):
                source = self.choose(rng)
                continue
            source = source[found.content : found.stop]
        return data[: chosen.start] + field(chosen.tag & ~7 | 2, source) + data[chosen.stop :]

    def nest(self, rng: random.Random, data: bytes, fields: list[Field]) -> bytes:
        """A field within itself, up to far deeper than parsers allow."""
        chosen = rng.choice(fields)
        if chosen.tag & 7 != 2:
            return self.tweak(rng, data, fields)
        content = data[chosen.content : chosen.stop][:1000]
        for _ in range(rng.choice((1, 2, 10, 99, 101, 300))):
            content = field(chosen.tag, content)
        return data[: chosen.start] + field(chosen.tag, content) + data[chosen.stop :]
