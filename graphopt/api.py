"""The public functions: each does its job in one line."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from graphopt import sources
from graphopt.discovery import Names
from graphopt.ir.errors import CheckError, UnsupportedError, UsageError, printable
from graphopt.ir.formats import graphdef
from graphopt.ir.model import Model
from graphopt.passes.base import Exactness, Pass
from graphopt.passes.manager import PassManager, Progress, preset
from graphopt.passes.report import RunReport
from graphopt.passes.spec import suggestion

if TYPE_CHECKING:
    from graphopt.samples import Samples
    from graphopt.verification import VerificationReport

Check = Literal["structure", "numeric", "off"]
CHECKS = ("structure", "numeric", "off")


class Result(NamedTuple):
    """What `optimize` gives back: `model, report = optimize(…)[:2]`, or by name.

    `verification` compares the optimised model with the original, where numeric checks were asked for.
    """

    model: Model
    report: RunReport
    verification: VerificationReport | None = None


def load(source: Any, *, inputs: Names = None, outputs: Names = None, tags: Collection[str] | None = None) -> Model:
    """Read a model.

    `source` is a path (a SavedModel's folder, `.pb`, `.pbtxt`, `.meta`, `.tflite`, `.onnx`, `.jax`, `.stablehlo`),
    bytes, a GraphDef, a `tf.Graph`, a ConcreteFunction, a Keras model, or a `Model`, which is copied. Inputs and
    outputs are found unless the source names them; `inputs` and `outputs` name them otherwise, with or without `:0`,
    and `Signature.reasons` says why each was chosen. `tags` choose a MetaGraph of a SavedModel that holds several.

    Raises `MalformedError` for what is no model and `UsageError` for a name it does not have.
    """
    with garbage_held():
        return sources.read(source, inputs=inputs, outputs=outputs, tags=tags).model


def save(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write `model` to `path`: TFLite for `.tflite`, ONNX for `.onnx`, a GraphDef for other files, text for `.pbtxt`.

    What was lowered to XLA is written into the folder `path`. A SavedModel is written
    into the folder `path` where that ends with a slash or is a SavedModel already, or where a
    name without a suffix is given for a model that came from a SavedModel or has variables.

    What is written is complete or not there at all. Raises `UsageError` where `path` exists, unless told to
    `overwrite` it, or its folder does not, and `UnsupportedError` where the format cannot hold the model: a GraphDef
    has no place for the values of variables, of which at most those left out of a freeze may remain.
    """
    name = os.fspath(path)
    if model.format == "xla":
        from graphopt.backends.xla.artifact import write_artifact

        write_artifact(model, name, overwrite=overwrite)
        return
    if sources.is_folder_name(name, model):
        from graphopt.ir.formats.savedmodel_writer import write_savedmodel

        write_savedmodel(model, name, overwrite=overwrite)
        return
    check_output(name, overwrite)
    if sources.is_tflite_name(name):
        from graphopt.ir.formats import tflite

        tflite.write_tflite(model, name, overwrite=overwrite)
        return
    if sources.is_onnx_name(name):
        from graphopt.ir.formats import onnx

        onnx.write_onnx(model, name, overwrite=overwrite)
        return
    valued = sources.unfrozen_variables(model)
    if valued:
        raise UnsupportedError(
            f"the model has {valued} variables, whose values a GraphDef cannot hold: freeze it, or write a SavedModel "
            f"('{printable(name.rpartition('.')[0] or name)}/')"
        )
    graphdef.write_graphdef(model, name, text=is_text_name(name), overwrite=overwrite)


def is_text_name(path: str) -> bool:
    """The name says that the file is text."""
    return path.lower().endswith((".pbtxt", ".prototxt"))


def check_output(path: str, overwrite: bool) -> None:
    """Raise `UsageError` unless a file may be written to `path`."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise UsageError(f"'{printable(path)}' is a directory; name a file in it")
    if not os.path.isdir(folder):
        raise UsageError(f"the folder '{printable(folder)}' does not exist")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"'{printable(path)}' exists; allow it to be overwritten, or choose another name")


def optimize(
    source: Any,
    pipeline: str = "inference",
    *,
    passes: str | Pass | Sequence[str | Pass] | None = None,
    inputs: Names = None,
    outputs: Names = None,
    check: Check = "structure",
    data: Samples | str | os.PathLike[str] | None = None,
    exactness: Exactness | str = Exactness.REASSOCIATING,
    fast_math: bool = False,
    journal: bool = False,
    runtime: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run a pipeline of passes over a copy of the model that `source` holds.

    `pipeline` names a preset; `passes` is a pipeline of one's own instead, as text or as passes. `check` verifies
    after each pass the structure, the numbers too (with `data`, or random inputs), or nothing. `exactness` is the
    highest class of rewrites allowed and `fast_math` gives up NaN and Inf. See `load` for the rest.

    Raises `UsageError` where the graph has no outputs, and `CheckError` naming pass and rewrite when numbers change.
    """
    if check not in CHECKS:
        raise UsageError(f"check '{printable(str(check))}' is not one of {', '.join(CHECKS)}")
    if data is not None and check != "numeric":
        raise UsageError("data are only used by numeric checks: add check='numeric'")
    if passes is None:
        preset(pipeline)  # a name there is not is reported before anything is read
    with garbage_held():
        model = sources.read(source, inputs=inputs, outputs=outputs).model
        manager = PassManager(
            pipeline if passes is None else passes,
            exactness=exactness_named(exactness),
            fast_math=fast_math,
            verify_each=check != "off",
            journal=journal,
            progress=progress,
            oracle=_shape_oracle(),
        )
        return run(model, manager, numeric=check == "numeric", data=data, runtime=runtime)


def _shape_oracle() -> Any:
    """TensorFlow's own inference for operators that the table does not cover, where it is loaded anyway."""
    if "tensorflow" not in sys.modules:
        return None
    from graphopt.runtimes.tensorflow import tensorflow_shape_oracle

    return tensorflow_shape_oracle()


def run(model: Model, manager: PassManager, *, numeric: bool = False, data: Any = None, runtime: Any = None) -> Result:
    """Run `manager` on `model` in place, comparing numbers if told to."""
    note = keep_ends(model)
    if not numeric:
        report = manager.run(model)
        report.notes[:0] = [note] if note else []
        return Result(model, report)
    from graphopt.verification import NumericComparison

    comparison = NumericComparison(model, data=data, runtime=runtime)
    manager.compare = comparison
    report = manager.run(model)
    report.notes[:0] = [note] if note else []
    verification = comparison.report(model)
    if not verification.holds:
        raise CheckError(f"the passes together changed the outputs: {verification.difference}")
    return Result(model, report, verification)


def keep_ends(model: Model) -> str:
    """Where no outputs were found, make targets of all nodes that nothing needs; returns what to tell the user then."""
    graph = model.graph
    if graph.outputs or graph.targets:
        return ""
    graph.targets = [node for node in graph if not node.has_uses]
    if not graph.targets:
        return ""
    names = ", ".join(f"'{printable(node.name)}'" for node in graph.targets[:5])
    return f"no outputs were found: what nothing reads is kept ({names}); name outputs to keep less (--outputs)"


def exactness_named(exactness: Exactness | str) -> Exactness:
    """The class of exactness called so. Raises `UsageError` if there is none."""
    if isinstance(exactness, Exactness):
        return exactness
    names = {item.name.lower(): item for item in Exactness}
    if exactness not in names:
        raise UsageError(f"there is no exactness '{printable(exactness)}'{suggestion(exactness, names)}")
    return names[exactness]


@contextmanager
def garbage_held() -> Iterator[None]:
    """No collections while a graph is built or rewritten: nearly every object stays, and looking is quadratic."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
