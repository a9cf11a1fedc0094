"""Loads and optimises the files named on standard input, each in a child with little memory; one JSON line for each.

A child reports outcome, CPU seconds and the growth of its peak memory; one that takes far too long is killed.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from typing import Any

from graphopt import api
from graphopt.ir.errors import Error
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.passes.manager import PassManager

ADDRESS_SPACE = 4 << 30
PATIENCE = 300  # wall seconds


def process(path: str) -> dict[str, Any]:
    """Load, optimise and serialise."""
    nodes = edges = 0
    try:
        model = api.load(path)
        nodes = model.node_count
        edges = sum(node.input_count + len(node.control_inputs) for graph in model.graphs for node in graph)
        if model.graph.outputs or model.graph.targets:
            PassManager("inference").run(model)
        size = len(graphdef_bytes(model))
        return {"outcome": "optimised", "status": 0, "message": f"{size} bytes", "nodes": nodes, "edges": edges}
    except Error as error:
        return {
            "outcome": "refused",
            "status": error.exit_status,
            "message": str(error),
            "nodes": nodes,
            "edges": edges,
        }
    except BaseException as error:
        return {"outcome": type(error).__name__, "status": 70, "message": str(error), "nodes": nodes, "edges": edges}


def child(path: str, writer: int) -> None:
    """Run `process` within limits, and tell what it cost. Never returns."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = [int(number) for number in file.read().split()]
    limit = pages[0] * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started, base = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = process(path)
    report["seconds"] = time.process_time() - started
    report["bytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024
    report["message"] = report["message"][:1000]
    os.write(writer, json.dumps(report).encode())
    os._exit(0)


def run(path: str) -> dict[str, Any]:
    """What became of one file."""
    reader, writer = os.pipe()
    process_id = os.fork()
    if not process_id:
        os.close(reader)
        child(path, writer)
    os.close(writer)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(process_id, signal.SIGKILL))
    signal.alarm(PATIENCE)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    signal.alarm(0)
    _, status = os.waitpid(process_id, 0)
    if answer:
        return dict(json.loads(answer))
    return {
        "outcome": f"died: {os.waitstatus_to_exitcode(status)}",
        "status": 70,
        "message": "",
        "nodes": 0,
        "edges": 0,
    }


def main(warm: str) -> None:
    process(warm)  # whatever is imported late is imported now
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(run(line.rstrip("\n"))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
