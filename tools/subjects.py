"""The models that lowering is compared with TensorFlow on: the zoo's and the corpus's, with what TensorFlow computes.

Inputs and outputs are those that tools/run_tflite_corpus.py --peer and tools/tflite_zoo.py keep.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tflite_corpus
from model_zoo import folder_of as zoo_folder

DEFAULT_SIGNATURE = "serving_default"
Case = tuple[dict[str, Any], dict[str, Any]]


class Subject(NamedTuple):
    """One model: what to lower, between what, and where inputs and outputs are kept."""

    name: str
    kind: str
    source: pathlib.Path
    io: pathlib.Path
    inputs: list[str]
    outputs: list[str]
    signature: str
    is_network: bool

    def case(self) -> Case:
        """Inputs and TensorFlow's outputs by name, both empty where TensorFlow gave none."""
        return cases(self.io).get(self.signature, ({}, {}))


def subjects(corpus: pathlib.Path) -> Iterator[Subject]:
    """The zoo's SavedModels, then the corpus."""
    for folder in sorted(zoo_folder("any").parent.glob("*/saved_model")):
        held = folder.parent / "signature_io.npz"
        if held.exists():
            name, signature = f"zoo/{folder.parent.name}", _signature(held)
            yield Subject(name, "savedmodel", folder, held, [], [], signature, is_network=True)
    for entry in json.loads((corpus / "MANIFEST.json").read_text()):
        kept = tflite_corpus.folder_of(entry)
        if entry["kind"] not in tflite_corpus.STAGES or not (kept / "peer.json").exists():
            continue
        facts = json.loads((kept / "peer.json").read_text())
        held = kept / "io.npz"
        signature = (
            "" if entry["kind"] == "graphdef" else _signature(held) or next(iter(facts.get("signatures", [])), "")
        )
        yield Subject(
            entry["path"], entry["kind"], corpus / entry["path"], held, facts.get("inputs", []),
            facts.get("outputs", []), signature, entry.get("class") == "network",
        )  # fmt: skip


def cases(path: pathlib.Path) -> dict[str, Case]:
    """The first sample of each signature, from an `.npz` of arrays `in|signature@sample|name`."""
    import numpy as np

    found: dict[str, Case] = {}
    if not path.exists():
        return found
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            kind, signature, name = key.split("|", 2)
            signature, _, sample = signature.partition("@")
            if sample in ("", "0"):
                found.setdefault(signature, ({}, {}))[kind == "out"][name] = arrays[key]
    return found


def _signature(held: pathlib.Path) -> str:
    """The default signature, or the first for which TensorFlow gave outputs."""
    names = list(cases(held))
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in names else next(iter(names), "")
