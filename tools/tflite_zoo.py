"""The models that the lowering to TFLite is measured on: seeded, random weights, statistics that fit the data.

    python tools/tflite_zoo.py [--list] [--groups GROUP,…] [NAME ...]    # needs the extra `tensorflow`; kept afterwards

Groups: `applications` (all that keras.applications builds and that stays under half a gigabyte), `huge` (the others),
`sequences`, `vision`, `functions`. Each model leaves `saved_model/`, `signature_io.npz` (seeded inputs and
TensorFlow's outputs of every signature) and `tflite_meta.json` in its folder of $GRAPHOPT_ZOO, by default
~/.cache/graphopt/zoo.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import model_zoo
from forks import in_child

SAMPLES = 2
LEAST_SPREAD = 0.02  # deviation over samples relative to the deviation over everything
IO, META = "signature_io.npz", "tflite_meta.json"


class Built(NamedTuple):
    """A model: how to write its SavedModel into a folder, and inputs of each sample by signature name."""

    save: Callable[[str], Any]
    feeds: list[dict[str, Any]]
    may_be_flat: bool = False  # its outputs need not vary from sample to sample


Builder = Callable[[Any], Built]


def registry() -> dict[str, tuple[str, Builder]]:
    """Name -> group and builder of every model."""
    import tflite_zoo_applications
    import tflite_zoo_functions
    import tflite_zoo_sequences
    import tflite_zoo_vision

    found: dict[str, tuple[str, Builder]] = {}
    for name in tflite_zoo_applications.names():
        group = "huge" if name in tflite_zoo_applications.HUGE else "applications"
        found[name.lower()] = (group, tflite_zoo_applications.builder(name))
    for group, module in (
        ("sequences", tflite_zoo_sequences),
        ("vision", tflite_zoo_vision),
        ("functions", tflite_zoo_functions),
    ):
        for name, builder in module.MODELS.items():
            found[name] = (group, builder)
    return found


def folder_of(name: str) -> pathlib.Path:
    """Where the model `name` lies, or will lie."""
    return model_zoo.folder_of(name)


def ensure(name: str, seconds: float = 1800.0) -> pathlib.Path:
    """The folder of the model `name`, built in a child if it is not there: quicker where Keras is imported already."""
    folder = folder_of(name)
    if not (folder / META).exists():
        built = in_child(lambda: build(name), timeout=seconds, memory_gib=32)
        if built.failure:
            raise RuntimeError(f"{name} cannot be built: {built.failure[:300]}")
    return folder


def build(name: str) -> None:
    """Build the model `name` here and now; a SavedModel that is there already stays."""
    import keras
    import numpy as np

    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    group, builder = registry()[name]
    if name in model_zoo.NAMES and (folder / "saved_model").is_dir():
        with np.load(folder / "io.npz") as arrays:
            feeds = [{"x": sample} for sample in arrays["in|x"][:SAMPLES]]
        may_be_flat = False
    else:
        seed = zlib.crc32(name.encode())
        keras.utils.set_random_seed(seed)
        built = builder(np.random.default_rng(seed))
        built.save(str(folder / "saved_model"))
        feeds, may_be_flat = built.feeds, built.may_be_flat
        del built
    meta = record(folder, feeds)
    if meta["spread"] < LEAST_SPREAD and not may_be_flat:
        raise ValueError(f"the outputs of {name} hardly vary ({meta['spread']}): no error would show in them")
    (folder / META).write_text(json.dumps({"group": group, **meta}, indent=1) + "\n")


def record(folder: pathlib.Path, feeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Run the signatures of the SavedModel in TensorFlow, keep inputs and outputs; returns what is known of it."""
    import numpy as np
    import tensorflow as tf
    from tflite_files import storable

    loaded = tf.saved_model.load(str(folder / "saved_model"))
    arrays: dict[str, Any] = {}
    spread = 0.0
    for signature, function in loaded.signatures.items():
        known = function.structured_input_signature[1]
        outputs: dict[str, list[Any]] = {}
        for place, sample in enumerate(feeds):
            fed = {name: value for name, value in sample.items() if name in known}
            found = function(**{name: tf.constant(value) for name, value in fed.items()})
            arrays |= {f"in|{signature}@{place}|{name}": storable(value) for name, value in fed.items()}
            for name, value in found.items():
                arrays[f"out|{signature}@{place}|{name}"] = storable(value)
                outputs.setdefault(name, []).append(storable(value))
        spread = max([spread, *(spread_of(values) for values in outputs.values())])
    np.savez(folder / IO, **arrays)
    weights = sum(f.stat().st_size for f in (folder / "saved_model" / "variables").glob("*.data-*"))
    constants = (folder / "saved_model" / "saved_model.pb").stat().st_size
    return {"spread": round(spread, 3), "weights": weights, "graph_bytes": constants,
            "signatures": list(loaded.signatures)}  # fmt: skip


def spread_of(values: list[Any]) -> float:
    """Deviation over samples relative to the deviation over everything; 1 where shapes or strings differ."""
    import numpy as np

    if len({value.shape for value in values}) > 1:
        return 1.0
    stacked = np.stack(values)
    if stacked.dtype.kind == "S":
        return 1.0 if len(np.unique(stacked)) > 1 else 0.0
    stacked = stacked.astype(np.float64)
    deviation = float(stacked.std())
    return float(stacked.std(0).mean()) / deviation if deviation > 0 else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--groups", default="", help="only these groups, separated by commas")
    parser.add_argument("--list", action="store_true", help="print names and groups")
    options = parser.parse_args()
    if not options.list:
        import keras  # noqa: F401 - once, here: each model is built in a fork of this process
    status = 0
    for name in selected(options.names, options.groups):
        try:
            print(name, registry()[name][0] if options.list else ensure(name), flush=True)
        except RuntimeError as error:
            print(f"FAILS {error}", flush=True)
            status = 1
    return status


def selected(names: list[str], groups: str) -> list[str]:
    """The models named, or those of the groups named, or all; the small ones first."""
    known = registry()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"there is no model {unknown[0]!a}; --list names them")
    wanted = set(groups.split(",")) if groups else set(GROUPS)
    if wanted - set(GROUPS):
        raise SystemExit(f"there is no group {sorted(wanted - set(GROUPS))[0]!a}; there are {', '.join(GROUPS)}")
    return names or [name for group in GROUPS for name in known if known[name][0] == group and group in wanted]


GROUPS = ("sequences", "functions", "vision", "applications", "huge")

if __name__ == "__main__":
    sys.exit(main())
