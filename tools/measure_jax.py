"""From functions of JAX to TFLite: ours beside TensorFlow's own way, jax2tf and tf.lite, in seconds, bytes and error.

    python tools/measure_jax.py [--networks dense,residual,transformer,recurrent] [--json report.json]

Each side converts in a process of its own. Seconds are those of the CPU, which other processes change least; those
without imports are of the conversion alone. The error is the largest difference from what JAX computes, relative to the
largest output, of the `.tflite` run by LiteRT.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from processes import ENVIRONMENT, PYTHON, geometric_mean

SIDES = ("ours", "tensorflow")
LIMIT = 900.0  # seconds of one process


# Networks -----------------------------------------------------------------------------------------------------


def weights(*shape: int) -> np.ndarray[Any, Any]:
    """Reproducible weights: those of a shape are always the same."""
    random = np.random.default_rng(list(shape))
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


def dense() -> tuple[Callable[..., Any], tuple[int, ...]]:
    """Four wide layers."""
    import jax

    held = [weights(1024, 1024) * (1 + place) for place in range(4)]

    def network(x: Any) -> Any:
        for matrix in held:
            x = jax.nn.relu(x @ matrix)
        return jax.nn.softmax(x)

    return network, (8, 1024)


def residual() -> tuple[Callable[..., Any], tuple[int, ...]]:
    """Residual blocks of convolutions, one of them depthwise, as in image networks."""
    import jax
    from jax import lax

    numbers = ("NHWC", "HWIO", "NHWC")

    def convolved(x: Any, kernel: Any, stride: int = 1, groups: int = 1) -> Any:
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    def network(x: Any) -> Any:
        x = jax.nn.relu(convolved(x, weights(7, 7, 3, 32), 2))
        x = lax.reduce_window(x, -np.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for _ in range(8):
            h = jax.nn.relu(convolved(x, weights(3, 3, 32, 64)))
            h = jax.nn.silu(convolved(h, weights(3, 3, 1, 64), groups=64))
            x = x + convolved(h, weights(1, 1, 64, 32))
        return x.mean((1, 2)) @ weights(32, 100)

    return network, (1, 96, 96, 3)


def transformer() -> tuple[Callable[..., Any], tuple[int, ...]]:
    """Six blocks of attention, with layer norms and Gaussian error linear units."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    width, heads = 128, 4

    def normalised(x: Any) -> Any:
        less = x - x.mean(-1, keepdims=True)
        return less * lax.rsqrt((less**2).mean(-1, keepdims=True) + 1e-5)

    def network(x: Any) -> Any:
        batch, length = x.shape[:2]
        for _ in range(6):
            h = normalised(x) @ weights(width, 3 * width)
            q, k, v = (part.reshape(batch, length, heads, width // heads) for part in jnp.split(h, 3, -1))
            share = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / np.float32(np.sqrt(width // heads)))
            mixed = jnp.einsum("bhts,bshd->bthd", share, v).reshape(batch, length, width)
            x = x + mixed @ weights(width, width)
            x = x + jax.nn.gelu(normalised(x) @ weights(width, 4 * width)) @ weights(4 * width, width)
        return x

    return network, (1, 64, width)


def recurrent() -> tuple[Callable[..., Any], tuple[int, ...]]:
    """A gated unit over a hundred steps: a loop."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def step(state: Any, now: Any) -> Any:
        gates = jax.nn.sigmoid(now @ weights(32, 128) + state @ weights(64, 128))
        update, reset = jnp.split(gates, 2, -1)
        fresh = jnp.tanh(now @ weights(32, 64) + (reset * state) @ weights(64, 64))
        state = update * state + (1 - update) * fresh
        return state, state

    def network(x: Any) -> Any:
        _, states = lax.scan(step, jnp.zeros((x.shape[0], 64)), jnp.moveaxis(x, 1, 0))
        return jnp.moveaxis(states, 0, 1)

    return network, (2, 100, 32)


NETWORKS = {made.__name__: made for made in (dense, residual, transformer, recurrent)}


def sample(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An input with spread."""
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


# One side, in its process -------------------------------------------------------------------------------------


def convert(side: str, name: str, target: str) -> None:
    """Write the network as `.tflite`; prints the CPU seconds that took after imports."""
    import jax  # noqa: F401

    if side == "ours":
        from graphopt.compat.tflite import TFLiteConverter
    else:
        import tensorflow as tf
        from jax.experimental import jax2tf
    function, shape = NETWORKS[name]()
    started = time.process_time()
    if side == "ours":
        content = TFLiteConverter.experimental_from_jax([function], [[("x", sample(shape))]]).convert()
    else:
        converted = jax2tf.convert(function, with_gradient=False)
        module = tf.Module()
        spec = tf.TensorSpec(shape, tf.float32, name="x")
        module.f = tf.function(lambda x: converted(x), autograph=False, input_signature=[spec])
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder, signatures=module.f.get_concrete_function())
            content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    seconds = time.process_time() - started
    pathlib.Path(target).write_bytes(content)
    print(seconds)


# All of it ----------------------------------------------------------------------------------------------------


def measured(
    side: str, name: str, folder: str, wanted: np.ndarray[Any, Any], x: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Seconds, bytes and error of one side, or why there are none."""
    target = f"{folder}/{side}.tflite"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [PYTHON, __file__, "--worker", side, name, target],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=LIMIT,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return {"problem": " ".join(done.stderr.split())[-300:] or f"exit status {done.returncode}"}
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    error, milliseconds = compared(target, x, wanted)
    return {
        "process": whole, "without imports": float(done.stdout.split()[-1]),
        "bytes": pathlib.Path(target).stat().st_size, "error": error, "milliseconds": milliseconds,
    }  # fmt: skip


def compared(target: str, x: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The relative error, and the least milliseconds of a run in LiteRT on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(target, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    times = []
    for _ in range(10):
        started = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - started)
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return float(np.abs(found - wanted).max() / np.abs(wanted).max()), min(times) * 1e3


def main() -> int:
    """Print a table; exit status 1 where our side fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="which of " + ", ".join(NETWORKS))
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        convert(*options.worker)
        return 0
    if importlib.util.find_spec("jax") is None:
        print("this needs JAX: pip install 'graphopt[xla]'", file=sys.stderr)
        return 2
    import jax

    report: dict[str, Any] = {}
    for name in options.networks.split(","):
        function, shape = NETWORKS[name]()
        x = sample(shape)
        wanted = np.asarray(jax.jit(function)(x))
        with tempfile.TemporaryDirectory() as folder:
            report[name] = {side: measured(side, name, folder, wanted, x) for side in SIDES}
        for side, figures in report[name].items():
            shown = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
            )
            print(f"{name:12} {side:10} {shown}", flush=True)
    for key in ("process", "without imports"):
        pairs = [(sides["tensorflow"].get(key), sides["ours"].get(key)) for sides in report.values()]
        ratios = [theirs / ours for theirs, ours in pairs if theirs and ours]
        if ratios:
            print(f"{key}: ours is {geometric_mean(ratios):.1f} times faster")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return int(any("problem" in sides["ours"] for sides in report.values()))


if __name__ == "__main__":
    sys.exit(main())
