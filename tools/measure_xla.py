"""How long lowering to StableHLO takes beside TensorFlow's fastest route, and how fast the result runs beside its jit.

    python tools/measure_xla.py MODEL ... [--zoo] [--only lowering|latency] [--runs 30] [--json report.json]
    python tools/measure_xla.py --platform cuda --applications ResNet50,MobileNetV2   # beside the same network in JAX

Models are SavedModels or frozen graphs; `--zoo` adds the Keras applications, recurrent networks, transformers and
U-Nets that tools/tflite_zoo.py has built. Each is frozen first, and both sides lower that graph, each in a process of
its own: ours, and TensorFlow's `experimental_get_compiler_ir`. Seconds are those of the CPU, which other processes
change least; those without imports are measured inside.

Latencies are of workers, a process each, that take turns, so that whatever else the machine does meets both: medians of
wall and of CPU seconds of a run. On a GPU the artifact runs beside the Keras application on Keras's JAX backend.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from model_zoo import folder_of
from processes import ENVIRONMENT, PYTHON, geometric_mean
from xla_workers import LOWER_OURS, LOWER_THEIRS, WORKER

SEQUENCES = ("lstm", "gru", "bidirectional_lstm", "transformer", "transformer_encoder", "unet")
RUNTIMES = ("tensorflow-jit", "xla")
ROUNDS = 6
LIMIT = 1200.0  # seconds of one process


# Lowering -----------------------------------------------------------------------------------------------------


def lowering(graph: str, ends: Sequence[str]) -> dict[str, Any]:
    """CPU seconds of both sides, of the whole process and without imports, or why there are none."""
    return {"ours": timed(LOWER_OURS, graph), "theirs": timed(LOWER_THEIRS, graph, *ends)}


def timed(program: str, *arguments: str) -> dict[str, Any]:
    """CPU seconds of a process and of what it does after its imports; `problem` where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            [PYTHON, "-c", program, *arguments], capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"no end within {LIMIT:.0f} s"}
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return {"problem": " ".join(done.stderr.split())[-300:] or f"exit status {done.returncode}"}
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"process": whole, "without imports": float(done.stdout.split()[-1])}


# Latency ------------------------------------------------------------------------------------------------------


class Worker:
    """A process that holds one compiled model and runs it when told; `problem` where it could not begin."""

    def __init__(self, name: str, arguments: Sequence[str], platform: str) -> None:
        environment = dict(ENVIRONMENT)
        if platform != "cpu":
            environment.pop("CUDA_VISIBLE_DEVICES")
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the worker runs
        self.process = subprocess.Popen(
            [PYTHON, "-c", WORKER, name, platform, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, env=environment,
        )  # fmt: skip
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.problem = "" if self._line() else self._failure()

    def run(self, times: int) -> None:
        """So many runs more."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        found = json.loads(self._line() or "[]")
        self.wall += found[0]
        self.cpu += found[1]

    def end(self) -> dict[str, Any]:
        """The medians in seconds."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.errors.close()
        if self.problem:
            return {"problem": self.problem}
        return {"wall": statistics.median(self.wall), "cpu": statistics.median(self.cpu)}

    def _line(self) -> str:
        """What the worker says next, past whatever its libraries print; empty at its end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("["):
                return line
        return ""

    def _failure(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace")
        return " ".join(text.split())[-300:] or f"exit status {self.process.returncode}"


def latency(workers: dict[str, Worker], runs: int) -> dict[str, Any]:
    """Medians of workers that take turns."""
    ready = [worker for worker in workers.values() if not worker.problem]
    for number in range(min(ROUNDS, runs)):
        for worker in ready if number % 2 else reversed(ready):
            worker.run(max(runs // ROUNDS, 1))
    return {name: worker.end() for name, worker in workers.items()}


# Models -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def frozen(path: str) -> Iterator[tuple[str, list[str]]]:
    """The model as one frozen graph of batch 1, and the tensors it is fed and asked for."""
    import graphopt
    from graphopt.freezing import freeze_model
    from graphopt.names import tensor_name

    model = graphopt.load(path)
    names = list(model.signatures)
    chosen = "serving_default" if "serving_default" in names else names[0]
    freeze_model(model, signature=chosen if len(names) > 1 else None)
    signature = model.signatures[chosen]
    ends = [signature.input_values().values(), signature.output_values().values()]
    with tempfile.TemporaryDirectory() as folder:
        graph = str(pathlib.Path(folder) / "frozen.pb")
        graphopt.save(model, graph)
        yield graph, [",".join(map(tensor_name, values)) for values in ends]


def zoo() -> list[str]:
    """The models of the zoo that are built: Keras applications and those of `SEQUENCES`."""
    import tflite_zoo_applications

    names = [name.lower() for name in tflite_zoo_applications.names()]
    folders = [folder_of(name) / "saved_model" for name in (*names, *SEQUENCES)]
    return [str(folder) for folder in folders if folder.is_dir()]


def measure(path: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model."""
    row: dict[str, Any] = {"model": name_of(path)}
    with frozen(path) as (graph, ends):
        if options.only != "latency":
            row["lowering"] = lowering(graph, ends)
        if options.only != "lowering":
            row["latency"] = latency({name: Worker(name, [graph, *ends], "cpu") for name in RUNTIMES}, options.runs)
    return row


def beside_jax(application: str, options: argparse.Namespace) -> dict[str, Any]:
    """An application of Keras, lowered by graphopt, beside itself on Keras's JAX backend."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("jax", "xla-artifact")  # the first one lowers the application for the second
        workers = {name: Worker(name, [application, folder], options.platform) for name in ("xla-artifact", "jax")}
        return {"model": application, "latency": latency({name: workers[name] for name in names}, options.runs)}


def name_of(path: str) -> str:
    """A model's name: that of the folder that holds it."""
    found = pathlib.Path(path)
    return found.parent.name if found.name in ("saved_model", "frozen.pb") else found.name


# Report -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Print a line for each model, and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--zoo", action="store_true")
    parser.add_argument("--only", choices=("lowering", "latency"))
    parser.add_argument("--platform", choices=("cpu", "cuda", "rocm", "tpu"), default="cpu")
    parser.add_argument("--applications", default="", help="of Keras, timed beside JAX")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.platform != "cpu" and not options.applications:
        parser.error("--platform goes with --applications: TensorFlow's jit is measured on a CPU")
    rows: list[dict[str, Any]] = []
    for path in [*options.models, *(zoo() if options.zoo else [])]:
        rows.append(measure(path, options))
        print(line(rows[-1]), flush=True)
    for application in filter(None, options.applications.split(",")):
        rows.append(beside_jax(application, options))
        print(line(rows[-1]), flush=True)
    for name, found in quotients(rows).items():
        worse = ", ".join(f"{model} {quotient:.2f}" for model, quotient in found.items() if quotient < 1)
        print(f"{name}: {geometric_mean(list(found.values())):.2f} in the geometric mean of {len(found)}"
              + (f"; below one: {worse}" if worse else ""))  # fmt: skip
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))


def line(row: dict[str, Any]) -> str:
    """One model's figures, and what failed."""
    parts = []
    for kind, unit, factor in (("lowering", "s", 1.0), ("latency", "ms", 1e3)):
        for name, found in row.get(kind, {}).items():
            figures = ", ".join(
                f"{key} {value * factor:.2f} {unit}" for key, value in found.items() if key != "problem"
            )
            parts.append(f"{name}: {figures or 'FAILS: ' + found['problem']}")
    return f"{row['model']}: " + "; ".join(parts)


def quotients(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Theirs over ours, of each figure and model that both have."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        for kind in ("lowering", "latency"):
            if kind in row:
                first, second = row[kind].values()
                theirs, ours = (second, first) if kind == "lowering" else (first, second)
                for key in ours.keys() & theirs.keys() - {"problem"}:
                    found.setdefault(f"{kind}, {key}", {})[row["model"]] = theirs[key] / ours[key]
    return dict(sorted(found.items()))


if __name__ == "__main__":
    main()
