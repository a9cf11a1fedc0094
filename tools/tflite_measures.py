"""One model measured on both sides: conversion processes, files, LiteRT's outputs and latency."""

from __future__ import annotations

import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import processes
import tflite_files
import tflite_peer
import tflite_zoo
from forks import in_child

FREE_OF_TENSORFLOW = """
import sys
from graphopt.cli.main import main
status = main(sys.argv[1:])
sys.exit(status or ("tensorflow imported" if "tensorflow" in sys.modules else 0))
"""
SLICE, BUDGET, MOST_PAIRS = 0.002, 4.0, 600  # seconds a sample lasts at least, seconds for all, pairs at most


def run_peer(folder: pathlib.Path) -> dict[str, Any]:
    """tf.lite's conversion in a process of its own, kept in the model's folder."""
    source, target = folder / "saved_model", folder / "peer.tflite"
    facts: dict[str, Any] = {}
    started = time.perf_counter()
    try:
        usage = processes.run([processes.PYTHON, "-c", tflite_peer.TIMED, str(source), str(target)], timeout=1800)
    except RuntimeError as error:
        said = str(error).partition("\n")[2]
        facts |= {"error": tflite_peer.telling_line(said), "message": tflite_peer.condensed(said)}
        facts["seconds"] = time.perf_counter() - started
        target.unlink(missing_ok=True)
    else:
        facts |= {"seconds": usage.wall, "cpu": usage.cpu, "peak_mib": usage.peak_mib, **facts_of(folder, target)}
        facts["operators"] = in_child(lambda: tflite_files.operators(target), timeout=120).value
    (folder / "peer.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def convert_peer(folder: pathlib.Path) -> dict[str, Any]:
    """tf.lite's conversion in a fork of this process, kept in the model's folder without a time."""
    source, target = folder / "saved_model", folder / "peer.tflite"
    converted = in_child(lambda: tflite_peer.convert(source, target), timeout=1800, memory_gib=48)
    error = converted.failure or converted.value
    facts: dict[str, Any] = {"error": error} if error else facts_of(folder, target)
    if not error:
        facts["operators"] = in_child(lambda: tflite_files.operators(target), timeout=120).value
    (folder / "peer.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def peer_of(folder: pathlib.Path, *, reuse: bool) -> dict[str, Any]:
    """tf.lite's result, from the model's folder if it may be reused and has a time."""
    path = folder / "peer.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if reuse and path.exists() else {}
    return kept if "seconds" in kept or "error" in kept else run_peer(folder)


def run_ours(folder: pathlib.Path, target: pathlib.Path, runs: int) -> dict[str, Any]:
    """graphopt's conversion in processes of its own, the median of `runs`."""
    command = [processes.PYTHON, "-c", FREE_OF_TENSORFLOW, "lower", str(folder / "saved_model")]
    command += ["--to", "tflite", "-o", str(target)]
    usages = []
    for _ in range(runs):
        target.unlink(missing_ok=True)
        try:
            usages.append(processes.run(command))
        except RuntimeError as error:
            said = str(error).partition(": exit status ")[2]
            return {"error": f"exit status {' '.join(said.split())}"[:1500]}
    usage = processes.median(usages)
    return {"seconds": usage.wall, "cpu": usage.cpu, "peak_mib": usage.peak_mib, **facts_of(folder, target)}


def facts_of(folder: pathlib.Path, target: pathlib.Path) -> dict[str, Any]:
    """Size of a file, and how far LiteRT's outputs are from TensorFlow's."""
    compared = in_child(lambda: compare(target, folder / tflite_zoo.IO), timeout=600, memory_gib=24)
    return {"bytes": target.stat().st_size, "litert": compared.failure[:300] or compared.value}


def compare(path: pathlib.Path, record: pathlib.Path) -> float | str:
    """The greatest error over scale of all signatures, samples and outputs, or what is wrong in words."""
    errors: list[float | str] = []
    for case, (feeds, expected) in cases_of(record).items():
        found = tflite_files.run(path, feeds, list(expected), case.partition("@")[0])
        for name, value in expected.items():
            error = tflite_files.error_of(found[name], value) if name in found else "missing"
            errors.append(f"output '{name}': {error}" if isinstance(error, str) else error)
    return tflite_files.worst(errors)


def cases_of(record: pathlib.Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Inputs and outputs by `signature@sample`."""
    import numpy as np

    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    with np.load(record, allow_pickle=False) as arrays:
        for key in arrays.files:
            kind, case, name = key.split("|", 2)
            cases.setdefault(case, ({}, {}))[kind == "out"][name] = arrays[key]
    return cases


def latency(ours: pathlib.Path, theirs: pathlib.Path, record: pathlib.Path, threads: int) -> dict[str, Any]:
    """Latencies of both files, run in turn: medians in milliseconds, and the median of ours / theirs over pairs.

    One thread is timed by its own CPU time: its latency where nothing else runs, and little more where much does.
    """
    outcome = in_child(lambda: time_pairs(ours, theirs, record, threads), timeout=900, memory_gib=24)
    return outcome.value if outcome.value is not None else {"failure": outcome.failure[:200]}


def time_pairs(ours: pathlib.Path, theirs: pathlib.Path, record: pathlib.Path, threads: int) -> dict[str, Any]:
    case, (feeds, _) = next(iter(cases_of(record).items()))
    both = [tflite_files.interpreter(path, threads) for path in (ours, theirs)]
    plain = all(tflite_files.has_one_entry(loaded) for loaded in both)  # a signature's call costs more than `invoke`
    runners = [prepared(loaded, feeds, "" if plain else case.partition("@")[0]) for loaded in both]
    clock = time.thread_time if threads == 1 else time.perf_counter
    slowest = max(elapsed(runner, 1, clock) for _ in range(2) for runner in runners)
    count = max(1, round(SLICE / slowest))
    pairs = []
    deadline = time.perf_counter() + BUDGET
    while len(pairs) < 7 or (len(pairs) < MOST_PAIRS and time.perf_counter() < deadline):
        first = len(pairs) % 2
        times = [0.0, 0.0]
        for place in (first, 1 - first):
            times[place] = elapsed(runners[place], count, clock) / count
        pairs.append(times)
    mine, peer = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    return {"ours_ms": mine, "peer_ms": peer, "ratio": statistics.median(a / b for a, b in pairs)}


def prepared(loaded: Any, feeds: dict[str, Any], signature: str) -> Any:
    """What runs the model once, on inputs that are set: the signature, or the whole if it is empty."""
    if signature:
        runner = loaded.get_signature_runner(signature)
        given = {name: tflite_files.fed(value) for name, value in feeds.items() if name in runner.get_input_details()}
        runner(**given)
        return lambda: runner(**given)
    names = tflite_files.input_tensors(loaded, list(feeds))
    for name, value in feeds.items():
        if name in names and list(names[name]["shape"]) != list(value.shape):
            loaded.resize_tensor_input(names[name]["index"], list(value.shape))
    loaded.allocate_tensors()
    for name, value in feeds.items():
        if name in names:
            loaded.set_tensor(names[name]["index"], tflite_files.fed(value))
    loaded.invoke()
    return loaded.invoke


def elapsed(function: Any, count: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(count):
        function()
    return clock() - started
