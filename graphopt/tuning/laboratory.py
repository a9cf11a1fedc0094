"""Trials of one model: parts of it quantized, the rest kept in higher precision, each measured once and remembered.

What has been measured is kept in a file if one is named, written anew after every trial, so that a search that was
interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.formats.atomic import write_atomically
from graphopt.ir.formats.tflite import write_model
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.passes.quantize.plan import Plan, make_plan
from graphopt.passes.quantize.recipe import Mode, Recipe, Rule, recipe_bytes
from graphopt.quantization import delegate_of, kernels_of, read_recipe, tflite_model
from graphopt.tuning.choosing import Chooser, Chosen, Report, Way
from graphopt.tuning.flow import gather
from graphopt.tuning.measuring import Accuracy, Measured, worst

SCHEMA = "graphopt.trials/1"
_LIMIT = 1 << 26  # bytes of a file of trials


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured: accuracy by output, the noise, and the bytes of the file."""

    outputs: dict[str, Accuracy]
    noise: float
    bytes: int

    @property
    def accuracy(self) -> Accuracy:
        """The worst of the outputs'."""
        return worst(self.outputs.values())


class _State(msgspec.Struct, forbid_unknown_fields=True):
    schema: str
    key: str
    trials: dict[str, Trial]


class Unit(NamedTuple):
    """Operators that change precision together: names of nodes, operators, bytes of their weights in int8."""

    names: tuple[str, ...]
    operators: tuple[str, ...]
    weights: int


class Laboratory:
    """One model, its samples and how it is quantized, to try changes on.

    `deadline` is a number of seconds after which `is_late` says so; nothing is interrupted. Raises `UsageError` where
    the recipe has nothing in int8, or nothing can be measured.
    """

    def __init__(
        self, source: Any, data: Any, recipe: Any, profile: str, effort: str, seconds: float | None,
        state: str | os.PathLike[str] | None, progress: Report | None,
    ):  # fmt: skip
        self._started, self._seconds = time.monotonic(), seconds
        self.recipe: Recipe = read_recipe(recipe)
        if not any(rule.mode == "int8" for rule in self.recipe.rules):
            raise UsageError("no rule of the recipe computes in int8: there is nothing to keep in higher precision")
        self.model, self.notes = tflite_model(source, None, None)
        self.progress = progress
        seen = gather(self.model, data, progress)
        self.bench = seen.bench
        supports, delegate = kernels_of(profile), delegate_of(profile)
        self.chooser: Chooser = seen.chooser(self.recipe, supports, delegate)
        self.plan: Plan = make_plan(self.model, self.recipe, supports, delegate)
        if effort == "fast":
            self.way, self.ranges = Way(), self.chooser.ranged(Way())
            self.chosen: Chosen | None = None
        else:
            self.chosen = self.chooser.choose(effort, progress)
            self.way, self.ranges = self.chosen.way, self.chosen.statistics
        self._path = None if state is None else os.fspath(state)
        key = f"{_digest(self.model)}.{_digest_samples(self.bench.samples)}.{profile}.{effort}"
        self._key = hashlib.sha256(key.encode() + recipe_bytes(self.recipe)).hexdigest()
        self.trials = self._resumed()

    @property
    def is_late(self) -> bool:
        """The time is up."""
        return self._seconds is not None and time.monotonic() - self._started > self._seconds

    def integer_nodes(self) -> list[Node]:
        """Operators of the main graph that compute in int8, on the fly at its end, in the order they are computed."""
        decisions = self.plan.decisions
        order = self.model.graph.topological_order()
        return [node for node in order if node in decisions and decisions[node].mode in ("int8", "dynamic")]

    def kept(self, units: Mapping[Mode, Sequence[Unit]]) -> Recipe:
        """The recipe with units kept in higher precision, by mode."""
        named = {mode: [name for unit in listed for name in unit.names] for mode, listed in units.items()}
        return self.recipe.with_rules(
            *(Rule(mode=mode, layers=matching(names)) for mode, names in named.items() if names)
        )

    def alone(self, unit: Unit) -> Recipe:
        """The recipe for `unit` and nothing else."""
        matched = matching(unit.names)
        rules = [msgspec.structs.replace(rule, layers=matched) for rule in self.recipe.rules if not rule.layers]
        return msgspec.structs.replace(self.recipe, rules=tuple(rules), islands=False)

    def measure(self, recipe: Recipe) -> Trial:
        """What comes of another recipe; remembered."""
        key = hashlib.sha256(recipe_bytes(recipe)).hexdigest()[:24]
        if key not in self.trials:
            model, _ = self.quantized(recipe)
            found: Measured = self.bench.measure(model)
            size = sum(map(len, write_model(model).pieces))
            self.trials[key] = Trial(found.outputs, found.noise, size)
            self._save()
        return self.trials[key]

    def quantized(self, recipe: Recipe | None = None) -> tuple[Model, Plan]:
        """A quantized copy, floats at its borders."""
        return self.chooser.quantized(self.way, self.ranges, recipe)

    # State ----------------------------------------------------------------------------------------------------

    def _resumed(self) -> dict[str, Trial]:
        if self._path is None or not os.path.exists(self._path):
            return {}
        try:
            with open(self._path, "rb") as file:
                state = msgspec.json.decode(file.read(_LIMIT), type=_State)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise MalformedError(f"this is no file of trials: {printable(str(error))}", source=self._path) from None
        if state.schema != SCHEMA:
            raise MalformedError(f"this is not a file of trials of schema '{SCHEMA}'", source=self._path)
        if state.key != self._key:
            raise UsageError(
                f"{printable(self._path)} holds trials of another model, other samples or another recipe: name another "
                "file, or remove it"
            )
        return state.trials

    def _save(self) -> None:
        if self._path is not None:
            write_atomically(self._path, [msgspec.json.encode(_State(SCHEMA, self._key, self.trials))], overwrite=True)


def matching(names: Sequence[str]) -> str:
    """A regular expression for exactly these names."""
    listed = "|".join(re.escape(name) for name in dict.fromkeys(names))
    return f"^(?:{listed})$"


def unit_of(nodes: Sequence[Node]) -> Unit:
    """Nodes as one unit."""
    read = [known_tensor(value) for node in nodes for value in node.inputs]
    weights = {id(held): held.size for held in read if held is not None}
    return Unit(tuple(node.name for node in nodes), tuple(node.op_type for node in nodes), sum(weights.values()))


def _digest(model: Model) -> str:
    found = hashlib.sha256()
    for piece in write_model(model).pieces:
        found.update(piece)
    return found.hexdigest()


def _digest_samples(samples: Iterable[Any]) -> str:
    found = hashlib.sha256()
    for sample in samples:
        for name, array in sample.items():
            found.update(f"{name} {array.shape} {array.dtype}".encode())
            found.update(array.tobytes())
    return found.hexdigest()
