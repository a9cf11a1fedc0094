"""Gates: what can be proved of a lowered model without a GPU, each runnable alone.

`checker` is ONNX's own, `onnxruntime` compares outputs with the source's, `tensorrt-rtx` parses and builds the model
with TensorRT-RTX on the CPU. The linter has run before anything is lowered. None of them runs on NVIDIA hardware.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graphopt.backends.tensorrt.profiles import Profile
from graphopt.ir.errors import Error, UsageError, printable
from graphopt.passes.spec import suggestion

GATES = ("checker", "onnxruntime", "tensorrt-rtx")
RTX = "tensorrt_rtx"
INSTALL_RTX = 'pip install "graphopt[tensorrt-test]"'
NO_HARDWARE = "nothing ran on NVIDIA hardware: numerics and speed there are not known"
TOLERANCES: Mapping[str, float] = {
    "fp32": 1e-4,
    "fp16": 1e-2,
    "bf16": 5e-2,
    "int8": 0.5,
    "fp8": 0.5,
    "int4": 0.5,
}  # of scale
SECONDS = 900


@dataclass(frozen=True)
class Gate:
    """A gate's verdict: `passed`, `failed`, or `not run`, with a sentence on what it saw or why not."""

    name: str
    status: str
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        return f"{self.name}: {self.status}" + (f" ({self.detail})" if self.detail else "")


def chosen_gates(names: Sequence[str]) -> tuple[str, ...]:
    """The gates that are named, all for `all`. Raises `UsageError` for one that there is not."""
    if "all" in names:
        return GATES
    for name in names:
        if name not in GATES:
            raise UsageError(f"there is no gate '{printable(name)}'{suggestion(name, GATES)}; there are {GATES}")
    return tuple(name for name in GATES if name in names)


def run_gates(
    names: Sequence[str],
    path: str,
    *,
    profiles: Mapping[str, Profile] | None = None,
    source: Any = None,
    data: Any = None,
    precision: str = "fp32",
    plugins: Sequence[str] = (),
) -> list[Gate]:
    """Run the gates in `names` on the ONNX file at `path`; all others come back as not run.

    So do those that know nothing of the `plugins` of TensorRT's that the file uses.
    """
    chosen = chosen_gates(names)
    calls: Mapping[str, Callable[[], Gate]] = {
        "checker": lambda: checker(path),
        "onnxruntime": lambda: numerics(path, source, data, precision, profiles or {}),
        "tensorrt-rtx": lambda: rtx(path, profiles or {}),
    }
    lacking = f"it has no {', '.join(plugins)}, TensorRT's plugin" if plugins else ""
    return [_gate(name, calls[name], name in chosen, lacking if name != "checker" else "") for name in GATES]


def _gate(name: str, call: Callable[[], Gate], is_chosen: bool, lacking: str) -> Gate:
    if not is_chosen:
        return Gate(name, "not run", "not asked for")
    return Gate(name, "not run", lacking) if lacking else call()


def checker(path: str) -> Gate:
    """ONNX's checker, with types and shapes inferred strictly."""
    try:
        import onnx
    except ImportError:
        return Gate("checker", "not run", 'it needs pip install "graphopt[tensorrt]"')
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # the package raises classes of its own, which have no common root
        return Gate("checker", "failed", _brief(error))
    return Gate("checker", "passed", f"onnx {onnx.__version__}")


def numerics(path: str, source: Any, data: Any, precision: str, profiles: Mapping[str, Profile]) -> Gate:
    """Outputs in ONNX Runtime against the source's, with the error against the scale of each output."""
    name = "onnxruntime"
    if source is None:
        return Gate(name, "not run", "there is no source to compare with")
    if precision == "bf16":
        return Gate(name, "not run", "ONNX Runtime does not compute with bfloat16 on the CPU")
    if importlib.util.find_spec(name) is None:
        return Gate(name, "not run", 'it needs pip install "graphopt[tensorrt]"')
    from graphopt.verification import verify

    limit = TOLERANCES[precision]
    samples = data if data is not None else _seeded(path, profiles)
    try:
        report = verify(source, path, data=samples, rtol=limit)
    except Error as error:
        return Gate(name, "failed", _brief(error))
    worst = max((output.relative_error for output in report.outputs), default=0.0)
    return Gate(name, "passed" if report.holds else "failed", f"error {worst:.1e} of scale, {limit:.0e} allowed")


def _seeded(path: str, profiles: Mapping[str, Profile]) -> Any:
    """Samples of the profiles' best shapes; None, for those that `verify` makes, without profiles."""
    if not profiles:
        return None
    import numpy as np

    from graphopt.ir.formats.onnx import read_onnx

    generator = np.random.default_rng(0)
    sample = {}
    for value in read_onnx(path).graph.inputs:
        shape = profiles[value.name].best if value.name in profiles else value.shape.static or ()
        kind = value.dtype.numpy or np.dtype(np.float32)
        is_float = value.dtype.is_float
        sample[value.name] = (generator.standard_normal(shape) if is_float else np.ones(shape)).astype(kind)
    return [sample]


def rtx(path: str, profiles: Mapping[str, Profile]) -> Gate:
    """Parse and build by TensorRT-RTX, in a process of its own."""
    name = "tensorrt-rtx"
    if importlib.util.find_spec(RTX) is None:
        return Gate(name, "not run", f"it needs {INSTALL_RTX}")
    request = json.dumps({"path": path, "profiles": profiles})
    command = [sys.executable, "-c", _SCRIPT, request]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Gate(name, "failed", f"it did not end within {SECONDS} s")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return Gate(name, "failed", f"it ended with status {done.returncode}: {_brief(done.stderr[-300:])}")
    answer = json.loads(lines[-1])
    if answer["error"]:
        return Gate(name, "failed", _brief(answer["error"]))
    return Gate(name, "passed", f"TensorRT-RTX {answer['version']} built it on the CPU: {answer['layers']} layers")


_SCRIPT = """
import json, os, sys

request = json.loads(sys.argv[1])
import tensorrt_rtx as trt

messages = []


class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)

    def log(self, severity, message):
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            messages.append(message)


def build():
    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request["path"]):
        return " / ".join(str(parser.get_error(i)) for i in range(parser.num_errors)) or "not parsed", 0
    config = builder.create_builder_config()
    if request["profiles"]:
        profile = builder.create_optimization_profile()
        for name, shapes in request["profiles"].items():
            profile.set_shape(name, *shapes)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return (" / ".join(messages) or "not built") if engine is None else "", network.num_layers


error, layers = build()
print(json.dumps({"error": error, "layers": layers, "version": trt.__version__}), flush=True)
os._exit(0)
"""


def _brief(error: object) -> str:
    return printable(" ".join(str(error).split()), 400)
