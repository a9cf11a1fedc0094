"""Mutants of `.tflite` files through reader, verifier and writer: none may crash, hang, swell or fail uncleanly.

    python tools/fuzz_tflite.py --count 200000 --findings fuzz/tflite
    python tools/fuzz_tflite.py --replay fuzz/tflite

The seeds are files of the corpus, and a few of them with metadata and packed files besides. A clean end is
`MalformedError` from the reader, `UnsupportedError` from the writer, or a model that is read, verified and written, and
read and written again as the same bytes. Anything else is unclean, as is what `fuzz_supervisor` calls so: a signal, a
hang, memory out of proportion. Case N of a seed is always the same mutant of the same corpus. Exit status 1 if anything
was unclean.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: workers are forked, and one core is enough

import argparse
import contextlib
import hashlib
import pathlib
import random
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from fuzz_supervisor import Outcome, Supervisor

from graphopt.ir.errors import MalformedError, ResourceError, UnsupportedError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.formats.tflite.metadata import associated_file, associated_files, attach_metadata, read_metadata
from graphopt.ir.formats.tflite.metadata_types import AssociatedFile, Metadata, NormalizationOptions, SubGraphMetadata
from graphopt.ir.verifier import problems

ROOT = pathlib.Path(__file__).parents[1].resolve()
CORPUS = pathlib.Path(os.environ.get("GRAPHOPT_CORPUS", ROOT.parent / "shared" / "corpus"))
KINDS = ("malformed", "resource", "unsupported", "read", "unclean")
LARGEST = 1 << 14  # bytes of a seed
BATCH = 5000
WORDS = (0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def examine(data: bytes) -> Outcome:
    """Read, verify, write, and read and write again."""
    stage = "read"
    try:
        model = read_tflite(data)
        stage = "verify"
        found = problems(model, 3)
        assert not found, found[0]
        stage = "metadata"
        with contextlib.suppress(MalformedError):
            read_metadata(model)
            for name in associated_files(model):
                with contextlib.suppress(MalformedError):
                    associated_file(model, name)
        stage = "write"
        written = tflite_bytes(model)
        stage = "read again"
        assert tflite_bytes(read_tflite(written)) == written, "what is written is not what is read back"
        return Outcome("read")
    except ResourceError as error:
        return Outcome("resource") if stage == "read" else unclean(stage, error)
    except MalformedError as error:
        return Outcome("malformed") if stage == "read" else unclean(stage, error)
    except UnsupportedError as error:
        return Outcome("unsupported") if stage == "write" else unclean(stage, error)
    except BaseException as error:
        return unclean(stage, error)


def unclean(stage: str, error: BaseException) -> Outcome:
    """The verdict on an exception, with the place it came from as signature."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    trace = "".join(traceback.format_exception(error)[-6:])
    return Outcome("unclean", f"{stage}: {type(error).__name__} at {place}", f"{error}\n{trace}"[:3000])


class Mutator:
    """Makes mutants: bytes and words changed, offsets led elsewhere, pieces moved, the end cut off."""

    def __init__(self, seeds: Sequence[bytes]):
        self.seeds = seeds

    def mutant(self, rng: random.Random) -> bytes:
        data = bytearray(rng.choice(self.seeds))
        for _ in range(1 + int(rng.expovariate(0.7))):
            rng.choice(_CHANGES)(rng, data)
            if not data:
                return b""
        return bytes(data)


def _place(rng: random.Random, data: bytearray, size: int) -> int:
    """A place aligned to `size`; more often near the end, where the tables of small files are, or at the front."""
    spread = rng.random() ** rng.choice((0.5, 1.0, 2.0))
    return int(spread * max(len(data) - size, 0)) // size * size


def _flip(rng: random.Random, data: bytearray) -> None:
    data[_place(rng, data, 1)] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray) -> None:
    data[_place(rng, data, 1)] = rng.randrange(256)


def _word(rng: random.Random, data: bytearray) -> None:
    if len(data) >= 4:
        struct.pack_into("<I", data, _place(rng, data, 4), rng.choice(WORDS))


def _half(rng: random.Random, data: bytearray) -> None:
    if len(data) >= 2:
        struct.pack_into("<H", data, _place(rng, data, 2), rng.choice(WORDS) & 0xFFFF)


def _nudge(rng: random.Random, data: bytearray) -> None:
    """An offset, a length or an index becomes a little more or less."""
    if len(data) >= 4:
        place = _place(rng, data, 4)
        value = struct.unpack_from("<I", data, place)[0] + rng.choice((-16, -8, -4, -2, -1, 1, 2, 4, 8, 16))
        struct.pack_into("<I", data, place, value & 0xFFFFFFFF)


def _retarget(rng: random.Random, data: bytearray) -> None:
    """An offset leads to where another one does."""
    if len(data) >= 8:
        place, other = _place(rng, data, 4), _place(rng, data, 4)
        target = other + struct.unpack_from("<I", data, other)[0]
        struct.pack_into("<I", data, place, (target - place) & 0xFFFFFFFF)


def _copy(rng: random.Random, data: bytearray) -> None:
    size = 4 << rng.randrange(5)
    if len(data) >= size:
        start, stop = _place(rng, data, 4), _place(rng, data, 4)
        data[stop : stop + size] = data[start : start + size]


def _truncate(rng: random.Random, data: bytearray) -> None:
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]


def _move(rng: random.Random, data: bytearray) -> None:
    if rng.random() < 0.3:
        place = _place(rng, data, 4)
        data[place:place] = bytes(rng.choice((1, 2, 4, 8)))


_CHANGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip, _flip, _byte, _word, _word, _half, _nudge, _nudge, _retarget, _copy, _truncate, _move,
)  # fmt: skip


def seeds() -> list[bytes]:
    """The small files of the corpus, smallest first."""
    files = {path.read_bytes(): None for path in sorted((CORPUS / "tflite").rglob("*.tflite"))}
    found = sorted((data for data in files if len(data) <= LARGEST), key=lambda data: (len(data), data))
    if not found:
        raise SystemExit(f"no .tflite files in {CORPUS}; GRAPHOPT_CORPUS names its folder")
    return found + [described(data) for data in found[:12]]


def described(data: bytes) -> bytes:
    """The model with metadata and files, one of them longer than the model."""
    model = read_tflite(data)
    files = {"labels.txt": b"cat\ndog\n", "notes.txt": bytes(range(256)) * 4}
    units = (NormalizationOptions((127.5,), (127.5,)),)
    listed = tuple(AssociatedFile(name, type="TENSOR_AXIS_LABELS") for name in files)
    subgraph = SubGraphMetadata("main", associated_files=listed, input_process_units=units)
    attach_metadata(model, Metadata("small", "to be broken", "1", (subgraph,)), files)
    return tflite_bytes(model)


def run(count: int, start: int, seed: int, findings: pathlib.Path | None) -> int:
    """Run `count` cases; returns how many were unclean."""
    mutator = Mutator(seeds())
    seen: dict[str, int] = {}

    def mutant(number: int) -> bytes:
        return mutator.mutant(random.Random((seed << 40) + number))

    def case(number: int) -> tuple[int, Callable[[], Outcome]]:
        data = mutant(number)
        return len(data), lambda: examine(data)

    def found(number: int, outcome: Outcome) -> None:
        seen[outcome.signature] = seen.get(outcome.signature, 0) + 1
        if seen[outcome.signature] > 1:
            return
        print(f"UNCLEAN {seed}/{number}: {outcome.signature}\n{outcome.detail}", flush=True)
        if findings is not None:
            findings.mkdir(parents=True, exist_ok=True)
            name = hashlib.blake2b(outcome.signature.encode(), digest_size=6).hexdigest()
            (findings / f"{name}.tflite").write_bytes(mutant(number))

    for number in range(40):  # whatever is imported late is imported before workers are forked
        examine(mutant(number))
    supervisor = Supervisor(case, KINDS, found)
    began = time.monotonic()
    for place in range(start, start + count, BATCH):
        supervisor.run(place, min(place + BATCH, start + count))
        done = min(place + BATCH, start + count) - start
        rate = done / (time.monotonic() - began)
        print(f"seed {seed}: {done} tried, {rate:.0f}/s, {supervisor.counts()}", flush=True)
    return supervisor.counts()["unclean"]


def replay(folder: pathlib.Path) -> int:
    """Examine the inputs kept in `folder` once more; returns how many are unclean still."""
    supervisor = Supervisor(lambda number: (0, lambda: Outcome("read")), KINDS, lambda number, outcome: None)
    failing = 0
    for path in sorted(folder.glob("*.tflite")):
        data = path.read_bytes()
        outcome = supervisor.alone(0, lambda _, data=data: (len(data), lambda: examine(data)))
        failing += outcome.kind == "unclean"
        print(f"{path.name}: {outcome.kind} {outcome.signature}")
    return failing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10000, help="cases to run")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=pathlib.Path, help="folder for unclean inputs")
    parser.add_argument("--replay", type=pathlib.Path, metavar="FOLDER", help="examine what was found once more")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        return 1 if replay(options.replay) else 0
    return 1 if run(options.count, options.start, options.seed, options.findings) else 0


if __name__ == "__main__":
    sys.exit(main())
