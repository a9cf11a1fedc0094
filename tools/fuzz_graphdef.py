"""Mutants of GraphDefs through reader and passes: none may crash, hang, take undue memory or fail uncleanly.

    python tools/fuzz_graphdef.py bytes --count 100000 --state fuzz/bytes.json --findings fuzz/findings
    python tools/fuzz_graphdef.py structure --count 10000 --state fuzz/structure.json --findings fuzz/findings
    python tools/fuzz_graphdef.py replay fuzz/findings

`bytes` reads byte mutants (and takes every tenth that loads through the passes); `structure` takes structural mutants
through load, verification, the `inference` pipeline, writing and reading again. A clean end is success or, while
loading, `graphopt.Error`. Unclean is a signal, a hang (more than 2 s and 20 us a byte of CPU time), memory of more than
64 MiB and 8 times the file above what the process had before, any other exception, or a pass that fails on a model
that was read. Case N of a seed is always the same mutant of the same corpus. With `--state` a run goes on where the
last one ended. Exit status 1 if anything was unclean.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: workers are forked, and one core is enough

import argparse
import gc
import hashlib
import json
import pathlib
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

from fuzz_mutations import ByteMutator, field, split
from fuzz_structure import Mutant, StructureMutator
from fuzz_supervisor import Outcome, Supervisor

from graphopt import api
from graphopt.ir.errors import Error, MalformedError, ResourceError, UnsupportedError, UsageError, VerificationError
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.ir.model import Model
from graphopt.ir.verifier import verify
from graphopt.passes.base import PassError
from graphopt.passes.manager import PassManager
from graphopt.testing import random_model

ROOT = pathlib.Path(__file__).parents[1].resolve()
CORPUS = pathlib.Path(os.environ.get("GRAPHOPT_CORPUS", ROOT.parent / "shared" / "corpus"))
KINDS = ("malformed", "resource", "usage", "no outputs", "read", "optimised", "unsupported", "unclean")
LARGEST = {"bytes": 1 << 14, "structure": 1 << 15}  # bytes of a seed
TEXT_LARGEST = 1 << 12
TRIALS = 300  # of a minimisation
BATCH = 2000
EVERY = {"bytes": 10, "structure": 1}  # one of so many goes through the passes


# The examination of one input --------------------------------------------------------------------------------


def examine(mutant: Mutant, optimise: bool) -> Outcome:
    """Load, verify, optimise, write and read again."""
    stage = "load"
    try:
        model = api.load(mutant.data, inputs=mutant.inputs, outputs=mutant.outputs)
        stage = "verify"
        verify(model, contracts=False)
        stage = "write"
        written_twice(model)
        if not optimise:
            return Outcome("read")
        if not model.graph.outputs and not model.graph.targets:
            return Outcome("no outputs")
        stage = "optimise"
        PassManager("inference").run(model)
        stage = "verify the result of"
        verify(model, contracts=False)
        stage = "write the result of"
        written_twice(model)
        return Outcome("optimised")
    except UnsupportedError:
        return Outcome("unsupported")
    except Error as error:
        if stage == "load" and isinstance(error, (MalformedError, UsageError)):
            kinds = {ResourceError: "resource", MalformedError: "malformed"}
            return Outcome(kinds.get(type(error), "usage"))
        if stage == "optimise" and isinstance(error, ResourceError):
            return Outcome("resource")
        if stage == "optimise" and type(error) is UsageError:
            return Outcome("usage")  # something cannot be an input or output
        return unclean(stage, error)
    except BaseException as error:
        return unclean(stage, error)


def written_twice(model: Model) -> None:
    """Raise `AssertionError` unless `model` is written as bytes that can be read and written back as they are."""
    written = graphdef_bytes(model)
    again = graphdef_bytes(api.load(written)) if written else written
    assert again == written, "what is written is not what is read back"


def unclean(stage: str, error: BaseException) -> Outcome:
    """The verdict on an exception, with the place it came from as signature."""
    origin: BaseException = error
    while origin.__cause__ is not None:
        origin = origin.__cause__
    frames = [
        frame
        for frame in traceback.extract_tb(origin.__traceback__)
        if "graphopt" in frame.filename or ROOT.name in frame.filename
    ]
    place = f"{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    if isinstance(origin, (PassError, VerificationError)):  # raised in one place for many reasons
        place += " " + re.sub(r"'[^']*'|\[[^\]]*\]|\d+", "", str(error))[:160]
    trace = "".join(traceback.format_exception(origin)[-6:])
    return Outcome("unclean", f"{stage}: {type(origin).__name__} at {place}", f"{error}\n{trace}"[:4000])


# Mutants -----------------------------------------------------------------------------------------------------


def corpus(pattern: str, largest: int) -> list[bytes]:
    """The GraphDefs of the corpus up to a size, smallest first; none where there is no corpus."""
    paths = [path for path in (CORPUS / "graphdef").rglob(pattern) if path.stat().st_size <= largest]
    files = {path.read_bytes(): path.as_posix() for path in paths}
    return sorted(files, key=lambda data: (len(data), files[data]))


def random_seeds(count: int, size: int) -> list[bytes]:
    """Serialised random models."""
    return sorted((graphdef_bytes(random_model(seed, 1 + seed % size)) for seed in range(count)), key=len)


def interleaved(first: Sequence[bytes], second: Sequence[bytes]) -> list[bytes]:
    """Both, smallest first."""
    return sorted((*first, *second), key=len)


def byte_mutants() -> Callable[[random.Random], Mutant]:
    """Makes byte mutants of binary and text GraphDefs."""
    binary = ByteMutator(interleaved(corpus("*.pb", LARGEST["bytes"]), random_seeds(60, 6)))
    texts = corpus("*.pbtxt", TEXT_LARGEST)
    textual = ByteMutator(texts) if texts else binary
    textual.structured = ()

    def mutant(rng: random.Random) -> Mutant:
        if rng.random() < 0.04 and texts:
            data = textual.choose(rng)
            for _ in range(1 + int(rng.expovariate(1))):
                data = rng.choice(textual.flat)(rng, data)
            return Mutant(data, None, None)
        return Mutant(binary.mutant(rng), None, None)

    return mutant


def structure_mutants() -> Callable[[random.Random], Mutant]:
    """Makes structural mutants."""
    return StructureMutator(interleaved(corpus("*.pb", LARGEST["structure"]), random_seeds(240, 10))).mutant


MUTANTS = {"bytes": byte_mutants, "structure": structure_mutants}


# Campaigns ---------------------------------------------------------------------------------------------------


class Campaign:
    """One run of many cases, with its counts, its state on disk and its findings."""

    def __init__(
        self, mode: str, seed: int, state: pathlib.Path | None, findings: pathlib.Path | None, every: int | None = None
    ):
        self.mode, self.seed, self.state, self.findings = mode, seed, state, findings
        self.every = every if every is not None else EVERY[mode]
        self.make = MUTANTS[mode]()
        self.supervisor = Supervisor(self.case, KINDS, self.found)
        self.unclean: dict[str, int] = {}
        self.next, self.earlier = 0, dict.fromkeys(KINDS, 0)
        if state is not None and state.is_file():
            held = json.loads(state.read_text())
            if (held["mode"], held["seed"]) != (mode, seed):
                raise SystemExit(f"{state} belongs to another campaign: {held['mode']}, seed {held['seed']}")
            self.next, self.unclean = held["next"], held["unclean"]
            self.earlier = dict.fromkeys(KINDS, 0) | held["counts"]
        for number in range(40):  # whatever is imported late is imported before workers are forked
            examine(self.mutant(number), True)
        gc.collect()
        gc.freeze()

    def mutant(self, number: int) -> Mutant:
        """Case `number`."""
        return self.make(random.Random((self.seed << 40) + number))

    def case(self, number: int) -> tuple[int, Callable[[], Outcome]]:
        """What the supervisor runs."""
        mutant = self.mutant(number)
        optimise = self.is_optimised(number)
        return len(mutant.data), lambda: examine(mutant, optimise)

    def is_optimised(self, number: int) -> bool:
        """Case `number` goes through the passes if it loads."""
        return self.every > 0 and number % self.every == 0

    def counts(self) -> dict[str, int]:
        """Outcomes so far, those of earlier runs included."""
        return {kind: self.earlier[kind] + count for kind, count in self.supervisor.counts().items()}

    def run(self, count: int) -> int:
        """Run `count` more cases; returns how many were unclean, in this run."""
        started, stop, first = time.monotonic(), self.next + count, self.next
        while self.next < stop:
            upto = min(stop, self.next + BATCH)
            self.supervisor.run(self.next, upto)
            self.next = upto
            self.save()
            rate = (self.next - first) / (time.monotonic() - started)
            print(f"{self.mode} seed {self.seed}: {self.next} tried, {rate:.0f}/s, {self.counts()}", flush=True)
        return self.supervisor.counts()["unclean"]

    def save(self) -> None:
        """Write the state, so that another run goes on from here."""
        if self.state is None:
            return
        self.state.parent.mkdir(parents=True, exist_ok=True)
        held = {
            "mode": self.mode,
            "seed": self.seed,
            "next": self.next,
            "counts": self.counts(),
            "unclean": self.unclean,
        }
        temporary = self.state.with_suffix(".tmp")
        temporary.write_text(json.dumps(held, indent=1))
        os.replace(temporary, self.state)

    def found(self, number: int, outcome: Outcome) -> None:
        """Report an unclean case; the first with its signature is made smaller and kept."""
        self.unclean[outcome.signature] = self.unclean.get(outcome.signature, 0) + 1
        if self.unclean[outcome.signature] > 1:
            return
        mutant = self.mutant(number)
        print(f"UNCLEAN {self.mode} {self.seed}/{number}: {outcome.signature}\n{outcome.detail}", flush=True)
        if self.findings is None:
            return
        smaller = minimise(self.supervisor, mutant, self.is_optimised(number), outcome.signature)
        self.findings.mkdir(parents=True, exist_ok=True)
        name = f"{self.mode}-{hashlib.blake2b(outcome.signature.encode(), digest_size=6).hexdigest()}"
        (self.findings / f"{name}.pb").write_bytes(smaller)
        about = {
            "mode": self.mode, "seed": self.seed, "number": number, "signature": outcome.signature,
            "detail": outcome.detail, "inputs": mutant.inputs, "outputs": mutant.outputs,
        }  # fmt: skip
        (self.findings / f"{name}.json").write_text(json.dumps(about, indent=1))


def minimise(supervisor: Supervisor, mutant: Mutant, optimise: bool, signature: str) -> bytes:
    """The input without what the fault does not need: fields are left out as long as it stays the same."""
    data, trials = mutant.data, TRIALS

    def still_fails(candidate: bytes) -> bool:
        smaller = mutant._replace(data=candidate)
        return (
            supervisor.alone(0, lambda _: (len(candidate), lambda: examine(smaller, optimise))).signature == signature
        )

    size = -1
    while size != len(data) and trials > 0:
        size = len(data)
        for path in paths(data):
            candidate = without(data, path)
            if candidate is None:
                continue
            trials -= 1
            if trials < 0:
                break
            if still_fails(candidate):
                data = candidate
    return data


def paths(data: bytes, prefix: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Where the fields of a message are, outer ones first and the last of each first."""
    try:
        fields = split(data)
    except ValueError:
        return
    for place in reversed(range(len(fields))):
        yield (*prefix, place)
    for place in reversed(range(len(fields))):
        found = fields[place]
        if found.tag & 7 == 2 and len(prefix) < 8:
            yield from paths(data[found.content : found.stop], (*prefix, place))


def without(data: bytes, path: tuple[int, ...]) -> bytes | None:
    """The message without the field at `path`, None if there is none."""
    try:
        fields = split(data)
    except ValueError:
        return None
    if path[0] >= len(fields):
        return None
    found = fields[path[0]]
    if len(path) == 1:
        return data[: found.start] + data[found.stop :]
    content = without(data[found.content : found.stop], path[1:])
    return None if content is None else data[: found.start] + field(found.tag, content) + data[found.stop :]


def replay(folder: pathlib.Path) -> int:
    """Examine the inputs kept in `folder` once more; returns how many are unclean still."""
    failing = 0
    supervisor = Supervisor(lambda number: (0, lambda: Outcome("read")), KINDS, lambda number, outcome: None)
    for path in sorted(folder.glob("*.pb")):
        about = path.with_suffix(".json")
        held = json.loads(about.read_text()) if about.is_file() else {}
        mutant = Mutant(path.read_bytes(), held.get("inputs"), held.get("outputs"))
        outcome = supervisor.alone(0, lambda _, mutant=mutant: (len(mutant.data), lambda: examine(mutant, True)))
        failing += outcome.kind == "unclean"
        print(f"{path.name}: {outcome.kind} {outcome.signature or held.get('signature', '')}")
    return failing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mode", choices=(*MUTANTS, "replay"))
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help="findings to replay")
    parser.add_argument("--count", type=int, default=10000, help="cases to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, help="number of the first case (default: where the state ended)")
    parser.add_argument("--state", type=pathlib.Path, help="file that remembers what was done")
    parser.add_argument("--findings", type=pathlib.Path, help="folder for unclean inputs, made smaller")
    parser.add_argument("--optimise-every", type=int, help="take one of so many through the passes (0: none)")
    options = parser.parse_args(arguments)
    if options.mode == "replay":
        if options.folder is None:
            parser.error("name the folder to replay")
        return 1 if replay(options.folder) else 0
    campaign = Campaign(options.mode, options.seed, options.state, options.findings, options.optimise_every)
    if options.start is not None:
        campaign.next = options.start
    return 1 if campaign.run(options.count) else 0


if __name__ == "__main__":
    sys.exit(main())
