"""graphopt: rewrites TensorFlow models into smaller and faster ones that compute the same.

    import graphopt

    model, report = graphopt.optimize("frozen.pb")
    graphopt.save(model, "small.pb")

Everything here is imported when it is first used, so that `import graphopt` itself costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that has it
_EXPORTS = {
    "Result": "graphopt.api",
    "load": "graphopt.api",
    "optimize": "graphopt.api",
    "save": "graphopt.api",
    "calibrate": "graphopt.calibration",
    "diff": "graphopt.differences",
    "Difference": "graphopt.differences",
    "discover": "graphopt.discovery",
    "freeze": "graphopt.freezing",
    "Frozen": "graphopt.freezing",
    "inspect": "graphopt.inspection",
    "check": "graphopt.lowering",
    "lower": "graphopt.lowering",
    "quantize": "graphopt.quantization",
    "Quantized": "graphopt.quantization",
    "sensitivity": "graphopt.tuning.sensitivity",
    "Sensitivity": "graphopt.tuning.sensitivity",
    "search": "graphopt.tuning.search",
    "random_inputs": "graphopt.samples",
    "read_samples": "graphopt.samples",
    "VerificationReport": "graphopt.verification",
    "verify": "graphopt.verification",
    "Exactness": "graphopt.passes",
    "Pass": "graphopt.passes",
    "PassContext": "graphopt.passes",
    "PassManager": "graphopt.passes",
    "RewritePass": "graphopt.passes",
    "Rule": "graphopt.passes",
    "RunReport": "graphopt.passes",
    "parse_pipeline": "graphopt.passes",
    "register_pass": "graphopt.passes",
    "CheckError": "graphopt.ir",
    "Error": "graphopt.ir",
    "Graph": "graphopt.ir",
    "MalformedError": "graphopt.ir",
    "Model": "graphopt.ir",
    "Signature": "graphopt.ir",
    "UnsupportedError": "graphopt.ir",
    "UsageError": "graphopt.ir",
}

if TYPE_CHECKING:
    from graphopt.api import Result, load, optimize, save
    from graphopt.calibration import calibrate
    from graphopt.differences import Difference, diff
    from graphopt.discovery import discover
    from graphopt.freezing import Frozen, freeze
    from graphopt.inspection import inspect
    from graphopt.ir import (
        CheckError,
        Error,
        Graph,
        MalformedError,
        Model,
        Signature,
        UnsupportedError,
        UsageError,
    )
    from graphopt.lowering import check, lower
    from graphopt.passes import (
        Exactness,
        Pass,
        PassContext,
        PassManager,
        RewritePass,
        Rule,
        RunReport,
        parse_pipeline,
        register_pass,
    )
    from graphopt.quantization import Quantized, quantize
    from graphopt.samples import random_inputs, read_samples
    from graphopt.tuning.search import search
    from graphopt.tuning.sensitivity import Sensitivity, sensitivity
    from graphopt.verification import VerificationReport, verify

__all__ = [
    "CheckError",
    "Difference",
    "Error",
    "Exactness",
    "Frozen",
    "Graph",
    "MalformedError",
    "Model",
    "Pass",
    "PassContext",
    "PassManager",
    "Quantized",
    "Result",
    "RewritePass",
    "Rule",
    "RunReport",
    "Sensitivity",
    "Signature",
    "UnsupportedError",
    "UsageError",
    "VerificationReport",
    "__version__",
    "calibrate",
    "check",
    "diff",
    "discover",
    "freeze",
    "inspect",
    "load",
    "lower",
    "optimize",
    "parse_pipeline",
    "quantize",
    "random_inputs",
    "read_samples",
    "register_pass",
    "save",
    "search",
    "sensitivity",
    "verify",
]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'graphopt' has no attribute '{name}'")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
