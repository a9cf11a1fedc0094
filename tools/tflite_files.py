"""What a `.tflite` holds and computes: operator counts, LiteRT's outputs, and how far they are from others."""

from __future__ import annotations

import pathlib
from typing import Any

from run_corpus import base

UNCOUNTED = ("tfl.INPUT", "tfl.CONSTANT", "tfl.VARIABLE")
LEAST_SCALE = 1e-3


def operators(path: pathlib.Path) -> list[dict[str, Any]]:
    """Operators of all subgraphs, counted by name, version and options; a custom operator's name follows `CUSTOM`."""
    import graphopt

    counts: dict[tuple[str, int, str], int] = {}
    for graph in graphopt.load(path).graphs:
        for node in graph:
            if node.op in UNCOUNTED:
                continue
            shown = ", ".join(
                f"{name}={_plain(value)}" for name, value in node.attrs.items() if not name.startswith("_")
            )
            key = (node.op.removeprefix("tfl."), node.attr("_version", 1), shown)
            counts[key] = counts.get(key, 0) + 1
    return [
        {"name": name, "version": version, "options": options, "count": count}
        for (name, version, options), count in sorted(counts.items())
    ]


def _plain(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def interpreter(path: pathlib.Path, threads: int = 1) -> Any:
    """LiteRT with its default delegate."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path), num_threads=threads)


def run(path: pathlib.Path, feeds: dict[str, Any], outputs: list[str], signature: str = "") -> dict[str, Any]:
    """LiteRT's outputs by name. A file without signatures is fed by tensor names, or in order where they differ."""
    loaded = interpreter(path)
    signatures = loaded.get_signature_list()
    feeds = {base(name) if name.endswith(":0") else name: fed(value) for name, value in feeds.items()}
    if signatures:
        runner = loaded.get_signature_runner(signature if signature in signatures else None)
        known = runner.get_input_details()
        found = runner(**{name: value for name, value in feeds.items() if name in known})
        return _matched(found, outputs)
    details = input_tensors(loaded, list(feeds))
    for name, value in feeds.items():
        if name in details and list(details[name]["shape"]) != list(value.shape):
            loaded.resize_tensor_input(details[name]["index"], list(value.shape))
    loaded.allocate_tensors()
    for name, value in feeds.items():
        if name in details:
            loaded.set_tensor(details[name]["index"], value)
    loaded.invoke()
    named = _named(loaded.get_output_details(), outputs)
    return {name: contents(loaded, detail) for name, detail in named.items()}


def contents(loaded: Any, detail: dict[str, Any]) -> Any:
    """A tensor; LiteRT does not hand out empty ones."""
    import numpy as np

    try:
        return loaded.get_tensor(detail["index"])
    except ValueError:
        (now,) = [item for item in loaded.get_tensor_details() if item["index"] == detail["index"]]
        if 0 not in now["shape"]:
            raise
        return np.empty(now["shape"], now["dtype"])


def input_tensors(loaded: Any, names: list[str]) -> dict[str, dict[str, Any]]:
    """Details of the input tensors by the names asked for: the signature's, the tensors' own, or in order."""
    details = loaded.get_input_details()
    signatures = list(loaded._get_full_signature_list().values())
    if has_one_entry(loaded):
        known = signatures[0]["inputs"]
        at = {detail["index"]: detail for detail in details}
        return {name: at[known[name]] for name in names if name in known and known[name] in at}
    return _named(details, names)


def has_one_entry(loaded: Any) -> bool:
    """Whether all signatures, under whatever names, are one and the same."""
    signatures = list(loaded._get_full_signature_list().values())
    return bool(signatures) and all(signature == signatures[0] for signature in signatures)


def fed(value: Any) -> Any:
    """The array as LiteRT takes it."""
    import numpy as np

    return value.astype(object) if value.dtype.kind == "S" else np.ascontiguousarray(value).reshape(value.shape)


def _matched(found: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Signature outputs under the names that were asked for; in order where no name fits."""
    short = {name.removesuffix(":0"): value for name, value in found.items()}
    if all(name.removesuffix(":0") in short for name in wanted):
        return {name: short[name.removesuffix(":0")] for name in wanted}
    return dict(zip(wanted, found.values(), strict=False))


def _named(details: list[dict[str, Any]], wanted: list[str]) -> dict[str, dict[str, Any]]:
    """Tensor details by the names asked for."""
    short = {detail["name"].removesuffix(":0"): detail for detail in details}
    if all(name.removesuffix(":0") in short for name in wanted):
        return {name: short[name.removesuffix(":0")] for name in wanted}
    return dict(zip(wanted, details, strict=False))


def storable(value: Any) -> Any:
    """The array as NumPy's own files can hold it: strings as fixed bytes, bfloat16 as float32."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind == "O":
        return np.array([item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)], "S"
                        ).reshape(array.shape)  # fmt: skip
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


def error_of(actual: Any, expected: Any) -> float | str:
    """Greatest absolute error over the scale of `expected`, or in words how the arrays cannot be compared."""
    import numpy as np

    left, right = storable(actual), storable(expected)
    if left.shape != right.shape:
        return f"shape {left.shape}, expected {right.shape}"
    if right.dtype.kind not in "fc":
        if left.dtype != right.dtype and "S" not in (left.dtype.kind, right.dtype.kind):
            return f"{left.dtype}, expected {right.dtype}"
        wrong = int(np.count_nonzero(left != right))
        return 0.0 if not wrong else f"{wrong} of {right.size} values differ"
    if not np.array_equal(np.isnan(left), np.isnan(right)):
        return "NaN in other places"
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite & ~np.isnan(right)], right[~finite & ~np.isnan(right)]):
        return "infinite in other places"
    scale = max(float(np.abs(right[finite]).max(initial=0.0)), LEAST_SCALE)
    difference = np.abs(left[finite].astype(np.complex128) - right[finite]).max(initial=0.0)
    return float(difference / scale)


def worst(errors: list[float | str]) -> float | str:
    """The first error in words, or the greatest number."""
    words = [error for error in errors if isinstance(error, str)]
    return words[0] if words else max((e for e in errors if not isinstance(e, str)), default=0.0)
