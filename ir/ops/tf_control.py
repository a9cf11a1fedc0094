"""Operators of TensorFlow: passing values on, control flow, calls of functions, arguments, assertions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.joins import join_shapes
from graphopt.ir.ops.inference import InferenceContext, InferenceError, same_as, unknown
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

Attrs = Mapping[str, Any]
Arrays = np.ndarray[Any, Any]


# Passing values on -----------------------------------------------------------------------------------------------

_PASSES_ON = Trait.PASS_THROUGH | Trait.ELEMENTWISE | Trait.IDEMPOTENT


def _identity(attrs: Attrs, array: Arrays) -> Arrays:
    return array


register(
    ("tf.Identity", "tf.StopGradient", "tf.PreventGradient", "tf.Snapshot"),
    traits=_PASSES_ON,
    shape=same_as(),
    evaluate=_identity,
)
register("tf.RefIdentity", traits=_PASSES_ON, shape=same_as())


def _each_as_given(context: InferenceContext) -> Sequence[Shape]:
    return context.shapes()


def _all(attrs: Attrs, *arrays: Arrays) -> Sequence[Arrays]:
    return arrays


register("tf.IdentityN", traits=Trait.PASS_THROUGH, shape=_each_as_given, evaluate=_all)


# Assertions and reports ------------------------------------------------------------------------------------------


def _finite(attrs: Attrs, array: Arrays) -> Arrays:
    """The array; raises `ValueError` where an element is NaN or infinite, as the operator fails."""
    if not np.isfinite(array).all():
        raise ValueError(f"{attrs['message']!r}: the tensor holds NaN or infinite elements")
    return array


register(
    ("tf.CheckNumerics", "tf.CheckNumericsV2"),
    traits=_PASSES_ON | Trait.ASSERTION,
    shape=same_as(),
    evaluate=_finite,
)
register("tf.Print", traits=Trait.PASS_THROUGH | Trait.ASSERTION, shape=same_as())
register(("tf.Assert", "tf.PrintV2", "tf.Abort"), traits=Trait.ASSERTION, shape=unknown)
register(
    ("tf.DebugIdentity", "tf.DebugIdentityV2", "tf.DebugIdentityV3"),
    traits=_PASSES_ON | Trait.ASSERTION,
    shape=same_as(),
)
register(("tf.NoOp", "tf.ControlTrigger"), shape=unknown)


# v1 control flow -------------------------------------------------------------------------------------------------


def _merge(context: InferenceContext) -> Sequence[Shape]:
    return [join_shapes(context.shapes()), SCALAR]


def _enter(context: InferenceContext) -> Sequence[Shape]:
    return [context.shape(0)]


def _loop_condition(context: InferenceContext) -> Sequence[Shape]:
    shape = context.shape(0)
    if shape.rank not in (None, 0):
        raise InferenceError(f"the condition of a loop is a scalar, not {shape}")
    return [SCALAR]


register(("tf.Switch", "tf.RefSwitch", "tf._SwitchN"), traits=Trait.CONTROL_FLOW, shape=same_as())
register(("tf.Merge", "tf.RefMerge"), traits=Trait.CONTROL_FLOW, shape=_merge)
register(
    ("tf.Enter", "tf.RefEnter", "tf.Exit", "tf.RefExit", "tf.NextIteration", "tf.RefNextIteration"),
    traits=Trait.CONTROL_FLOW,
    shape=_enter,
)
register("tf.LoopCond", traits=Trait.CONTROL_FLOW, shape=_loop_condition)


def _ref_select(context: InferenceContext) -> Sequence[Shape]:
    return [join_shapes(context.shapes(1))]


register("tf.RefSelect", traits=Trait.CONTROL_FLOW, shape=_ref_select)


# Calls of functions ----------------------------------------------------------------------------------------------


def _declared(context: InferenceContext) -> Sequence[Shape]:
    """Shapes that the call itself declares; the driver adds what the bodies yield."""
    declared = context.attrs.get("output_shapes", ())
    if len(declared) == context.output_count and all(isinstance(shape, Shape) for shape in declared):
        return list(declared)
    return [UNKNOWN_SHAPE] * context.output_count


def _as_arguments(context: InferenceContext) -> Sequence[Shape]:
    """The gradient of a function has the shapes of the function's own arguments."""
    return context.shapes(0, context.output_count)


register(
    ("tf.If", "tf.StatelessIf", "tf.While", "tf.StatelessWhile", "tf.Case", "tf.StatelessCase"),
    traits=Trait.CALL,
    shape=_declared,
)
register(("tf.PartitionedCall", "tf.StatefulPartitionedCall", "tf.RemoteCall"), traits=Trait.CALL, shape=_declared)
register(("tf.TPUPartitionedCall", "tf.XlaLaunch"), traits=Trait.CALL, shape=_declared)
register(("tf._If", "tf._While", "tf.For"), traits=Trait.CALL, shape=unknown)
register("tf.SymbolicGradient", traits=Trait.CALL | Trait.TRAINING, shape=_as_arguments)


# Values from outside, and to it ----------------------------------------------------------------------------------


def _fake_param(context: InferenceContext) -> Sequence[Shape]:
    shape = context.attrs.get("shape")
    return [shape if isinstance(shape, Shape) else UNKNOWN_SHAPE]


register(("tf._Arg", "tf._DeviceArg"), traits=Trait.SOURCE, shape=unknown)
register(("tf._Retval", "tf._DeviceRetval"), shape=unknown)
register("tf.FakeParam", shape=_fake_param)
register(("tf._Recv", "tf._HostRecv"), traits=Trait.SOURCE | Trait.STATEFUL, shape=unknown)
register(("tf._Send", "tf._HostSend"), traits=Trait.STATEFUL, shape=unknown)
register(("tf.PyFunc", "tf.EagerPyFunc", "tf.PyFuncStateless"), shape=unknown)
