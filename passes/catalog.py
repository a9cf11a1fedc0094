"""Which passes there are. A pass's module is imported when the pass is first asked for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphopt.ir.errors import UsageError, printable
from graphopt.passes.base import Pass

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "graphopt.passes"

# name -> module and class; one pass, one file
_CATALOG: dict[str, str] = {
    "strip-unused": "graphopt.passes.cleanup.strip_unused:StripUnused",
    "prune-control-dependencies": ("graphopt.passes.cleanup.prune_control_dependencies:PruneControlDependencies"),
    "remove-nodes": "graphopt.passes.cleanup.remove_nodes:RemoveNodes",
    "merge-duplicates": "graphopt.passes.cleanup.merge_duplicates:MergeDuplicates",
    "simplify": "graphopt.passes.cleanup.simplify:Simplify",
    "sort": "graphopt.passes.cleanup.sort:Sort",
    "infer-shapes": "graphopt.passes.shapes.infer_shapes:InferShapes",
    "set-shapes": "graphopt.passes.shapes.set_shapes:SetShapes",
    "fold-constants": "graphopt.passes.fold.fold_constants:FoldConstants",
    "fold-batch-norms": "graphopt.passes.fold.fold_batch_norms:FoldBatchNorms",
    "freeze-tables": "graphopt.passes.freeze.freeze_tables:FreezeTables",
    "freeze-variables": "graphopt.passes.freeze.freeze_variables:FreezeVariables",
    "inline-functions": "graphopt.passes.functions.inline_functions:InlineFunctions",
    "remove-unused-functions": "graphopt.passes.functions.remove_unused_functions:RemoveUnusedFunctions",
    "take-constant-branches": "graphopt.passes.control.take_constant_branches:TakeConstantBranches",
    "lower-control-flow": "graphopt.passes.control.lower_control_flow:LowerControlFlow",
    "raise-control-flow": "graphopt.passes.control.raise_control_flow:RaiseControlFlow",
    "unroll-loops": "graphopt.passes.control.unroll_loops:UnrollLoops",
    "specialise-functions": "graphopt.passes.control.specialise_functions:SpecialiseFunctions",
    "merge-loop-variables": "graphopt.passes.control.merge_loop_variables:MergeLoopVariables",
    "nest-cases": "graphopt.passes.control.nest_cases:NestCases",
    "hoist-loop-invariants": "graphopt.passes.control.hoist_loop_invariants:HoistLoopInvariants",
    "plain-tensor-arrays": "graphopt.passes.control.plain_tensor_arrays:PlainTensorArrays",
    "plain-tensor-lists": "graphopt.passes.control.plain_tensor_lists:PlainTensorLists",
    "move-scales": "graphopt.passes.tflite.move_scales:MoveScales",
    "factor-sums": "graphopt.passes.tflite.factor_sums:FactorSums",
    "fuse-lstm": "graphopt.passes.tflite.fuse_lstm:FuseLstm",
    "fuse-bias": "graphopt.passes.tflite.fuse_bias:FuseBias",
    "fuse-dilation": "graphopt.passes.tflite.fuse_dilation:FuseDilation",
    "fuse-padding": "graphopt.passes.tflite.fuse_padding:FusePadding",
    "recognise-activations": "graphopt.passes.tflite.recognise_activations:RecogniseActivations",
    "fuse-dilations": "graphopt.passes.fuse.fuse_dilations:FuseDilations",
    "recognise-upsampling": "graphopt.passes.fuse.recognise_upsampling:RecogniseUpsampling",
    "recognise-gelu": "graphopt.passes.fuse.recognise_gelu:RecogniseGelu",
    "recognise-softmax": "graphopt.passes.tflite.recognise_softmax:RecogniseSoftmax",
    "merge-reshapes": "graphopt.passes.tflite.merge_reshapes:MergeReshapes",
    "cancel-transposes": "graphopt.passes.tflite.cancel_transposes:CancelTransposes",
    "channels-last": "graphopt.passes.layout.channels_last:ChannelsLast",
    "fuse-layers": "graphopt.passes.onnx.fuse_layers:FuseLayers",
    "drop-reshapes": "graphopt.passes.onnx.drop_reshapes:DropReshapes",
    "fuse-recurrent": "graphopt.passes.onnx.fuse_recurrent:FuseRecurrent",
    "push-transposes": "graphopt.passes.onnx.push_transposes:PushTransposes",
    "widen-types": "graphopt.passes.onnx.widen_types:WidenTypes",
    "recognise-hard-swish": "graphopt.passes.onnx.recognise_hard_swish:RecogniseHardSwish",
    "recognise-normalization": "graphopt.passes.onnx.recognise_normalization:RecogniseNormalization",
    "channels-first": "graphopt.passes.layout.channels_first:ChannelsFirst",
    "fuse-activations": "graphopt.passes.tflite.fuse_activations:FuseActivations",
    "rename-node": "graphopt.passes.rename.rename_node:RenameNode",
    "rename-operator": "graphopt.passes.rename.rename_operator:RenameOperator",
    "rename-attribute": "graphopt.passes.rename.rename_attribute:RenameAttribute",
    "remove-attribute": "graphopt.passes.rename.remove_attribute:RemoveAttribute",
    "add-default-attributes": "graphopt.passes.rename.add_default_attributes:AddDefaultAttributes",
    "set-device": "graphopt.passes.rename.set_device:SetDevice",
    "remove-control-dependencies": "graphopt.passes.rename.remove_control_dependencies:RemoveControlDependencies",
    "equalize-channels": "graphopt.passes.quantize.equalize_channels:EqualizeChannels",
    "correct-biases": "graphopt.passes.quantize.correct_biases:CorrectBiases",
    "obfuscate-names": "graphopt.passes.rename.obfuscate_names:ObfuscateNames",
}
_REGISTERED: dict[str, type[Pass]] = {}


def register_pass(cls: type[Pass]) -> type[Pass]:
    """Make a pass known by its name; a decorator for passes defined outside this package.

    Raises `UsageError` if another pass has the name.
    """
    if cls.name in _CATALOG or _REGISTERED.get(cls.name, cls) is not cls:
        raise UsageError(f"there is already a pass '{cls.name}'")
    _REGISTERED[cls.name] = cls
    return cls


def find_pass(name: str) -> type[Pass]:
    """The pass class called `name`: built in, registered, or of a plugin. Raises `UsageError` if there is none."""
    if name in _CATALOG:
        module, _, attribute = _CATALOG[name].partition(":")
        found: type[Pass] = getattr(import_module(module), attribute)
        return found
    if name in _REGISTERED:
        return _REGISTERED[name]
    plugin = _plugins().get(name)
    if plugin is not None:
        return plugin
    close = difflib.get_close_matches(name, pass_names(), 1)
    hint = f"; did you mean '{close[0]}'?" if close else "; `graphopt passes` lists them"
    raise UsageError(f"there is no pass '{printable(name)}'{hint}")


def pass_names() -> tuple[str, ...]:
    """Names of all passes, plugins included, sorted."""
    return tuple(sorted({**_CATALOG, **_REGISTERED, **_plugins()}))


@lru_cache(maxsize=1)
def _plugins() -> Mapping[str, type[Pass]]:
    """Passes that installed packages offer through the entry-point group; scanned only when a name is unknown."""
    from importlib.metadata import entry_points

    found: dict[str, type[Pass]] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        loaded = _loaded(entry)
        if not (isinstance(loaded, type) and issubclass(loaded, Pass)):
            raise UsageError(f"plugin '{entry.name}' of group '{ENTRY_POINTS}' is not a pass")
        if entry.name in _CATALOG:
            raise UsageError(f"plugin '{entry.value}' takes the name of the built-in pass '{entry.name}'")
        if entry.name != loaded.name:  # pipelines are written with the one and read with the other
            raise UsageError(f"plugin '{entry.value}' offers the pass '{loaded.name}' under the name '{entry.name}'")
        found[entry.name] = loaded
    return found


def _loaded(entry: EntryPoint) -> Any:
    """What the entry point leads to. Raises `UsageError`, naming it, where its package cannot be imported."""
    try:
        return entry.load()
    except Exception as error:
        reason = printable(str(error) or type(error).__name__)
        raise UsageError(f"plugin '{entry.value}' cannot be loaded: {reason}; mend or uninstall its package") from error
