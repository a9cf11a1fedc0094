"""Run a model on samples and write statistics of its tensors, which every way of quantizing it can use."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_force, add_json, add_names
from graphopt.cli.console import Console
from graphopt.cli.output import check_output
from graphopt.ir.errors import UsageError, printable
from graphopt.report.progress import Progress
from graphopt.report.tables import Table

if TYPE_CHECKING:
    from graphopt.passes.quantize.statistics import Statistics

SCHEMA = "graphopt/calibrate/v1"
METHODS = ("minmax", "ema", "percentile", "mse", "entropy")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `calibrate`."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="the model to run; none with --merge")
    add_names(parser)
    parser.add_argument(
        "--data", metavar="D", help="an .npz: one array per input, shaped (samples, *the input's shape)"
    )
    parser.add_argument("--merge", metavar="STATS", nargs="+", help="statistics of parts of the samples, to make one")
    parser.add_argument("-o", "--output", metavar="STATS.json", required=True, help="the statistics to write")
    add_force(parser)
    parser.add_argument(
        "--method", choices=METHODS, default="minmax", help="how ranges will be chosen (default: minmax)"
    )
    parser.add_argument("--decay", metavar="X", type=float, help="of ema: weight of what came before (default: 0.95)")
    parser.add_argument(
        "--percentile", metavar="P", type=float, help="of percentile: elements kept, in percent (default: 99.999)"
    )
    parser.add_argument("--also", metavar="M,N", type=_methods, default=(), help="gather what these methods need, too")
    parser.add_argument("--channels", action="store_true", help="gather the range of each channel, too")
    parser.add_argument("--signature", metavar="S", help="the signature to run; the first if not given")
    parser.add_argument("--states", metavar="I=O", type=_states, help="inputs fed with outputs of the sample before")
    parser.add_argument("--reset", action="store_true", help="let variables start anew with each sample")
    parser.add_argument("--shard", metavar="K/N", type=_shard, help="take the K-th of N parts of the samples")
    parser.add_argument("--runtime", metavar="R", help="what runs it: litert, onnxruntime, tensorflow or reference")
    parser.add_argument("--no-check", action="store_true", help="note what is wrong with the samples, and go on")
    add_json(parser)


def _methods(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    for name in found:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"{name[:40]!a} is not one of {', '.join(METHODS)}")
    return found


def _states(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and output for name, _, output in pairs):
        raise argparse.ArgumentTypeError("states are written INPUT=OUTPUT, separated by commas")
    return {name: output for name, _, output in pairs}


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError("a part is written K/N, as 1/4 to 4/4")
    return int(found[1]), int(found[2])


def run(options: argparse.Namespace, console: Console) -> int:
    """Calibrate one model, or merge statistics."""
    from graphopt.passes.quantize.statistics_file import save_statistics

    if (options.merge is None) == (options.model is None):
        raise UsageError("give a model to calibrate, or statistics to --merge")
    check_output(options.output, options.force, *(options.merge or [options.model]))
    started = time.perf_counter()
    statistics = _merged(options.merge) if options.merge is not None else _calibrated(options)
    save_statistics(statistics, options.output, overwrite=options.force)
    seconds = time.perf_counter() - started
    for note in statistics.notes:
        console.note(note)
    _note_holes(statistics, console)
    if options.json:
        console.json(_as_dict(statistics, seconds))
        return 0
    if options.verbose:
        console.table(_table(statistics))
    many = f"{len(statistics)} tensors, {statistics.samples} samples"
    console.result(f"{options.output}: {many}, {statistics.method.name}, in {seconds:.2f} s")
    return 0


def _merged(paths: list[str]) -> Statistics:
    from graphopt.passes.quantize.statistics import merge
    from graphopt.passes.quantize.statistics_file import load_statistics

    return merge([load_statistics(path) for path in paths])


def _calibrated(options: argparse.Namespace) -> Statistics:
    from graphopt import sources
    from graphopt.calibration import calibrate
    from graphopt.passes.quantize.methods import range_method

    if options.data is None:
        raise UsageError("calibration needs samples: give --data")
    model = sources.read(options.model, inputs=options.inputs, outputs=options.outputs).model
    with Progress(sys.stderr, enabled=not options.quiet) as progress:
        return calibrate(
            model,
            options.data,
            method=range_method(options.method, decay=options.decay, percentile=options.percentile),
            also=options.also,
            channels=options.channels,
            signature=options.signature,
            states=options.states,
            reset=options.reset,
            shard=options.shard,
            runtime=options.runtime,
            check=not options.no_check,
            progress=progress,
        )


def _note_holes(statistics: Statistics, console: Console) -> None:
    bad = [str(key) for key, found in statistics.tensors.items() if found.nans or found.infinities]
    if bad:
        console.note(f"{len(bad)} tensors held NaN or Inf, which were left out; the first is '{printable(bad[0])}'")


def _as_dict(statistics: Statistics, seconds: float) -> dict[str, Any]:
    rows = [
        {
            "tensor": key.tensor, "function": key.graph, "count": found.count, "samples": found.samples,
            "minimum": None if found.is_empty else found.minimum, "maximum": None if found.is_empty else found.maximum,
            "nans": found.nans, "infinities": found.infinities,
        }
        for key, found in statistics.tensors.items()
    ]  # fmt: skip
    return {
        "schema": SCHEMA, "method": statistics.method.name, "samples": statistics.samples, "notes": statistics.notes,
        "seconds": round(seconds, 6), "tensors": rows,
    }  # fmt: skip


def _table(statistics: Statistics) -> Table:
    table = Table(["tensor", "minimum>", "maximum>", "elements>"])
    for key, found in statistics.tensors.items():
        table.add(str(key), f"{found.minimum:.6g}", f"{found.maximum:.6g}", found.count)
    return table
