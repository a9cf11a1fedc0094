"""Operators of TensorFlow on elements: arithmetic, rounding, exponentials, trigonometry, activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast, same_as
from graphopt.ir.ops.registry import Evaluation, register
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
integer_limits: Any = ml_dtypes.iinfo  # without types of their own; they know the narrow types that NumPy lacks
float_limits: Any = ml_dtypes.finfo

ELEMENTWISE = Trait.ELEMENTWISE
IDEMPOTENT = Trait.ELEMENTWISE | Trait.IDEMPOTENT
INVOLUTION = Trait.ELEMENTWISE | Trait.INVOLUTION
SELU_SCALE, SELU_SCALED_ALPHA = 1.0507009873554805, 1.7580993408473768


def evaluation(function: Callable[..., Any]) -> Evaluation:
    """An evaluation that computes `function` of the inputs, whatever the attributes, without warnings."""

    def evaluate(attrs: Any, *inputs: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(*inputs))

    return evaluate


def is_narrow(array: Array) -> bool:
    """A float of 16 bits or fewer, which is computed with in single precision and rounded once."""
    return array.dtype.itemsize < 4 and array.dtype.kind not in "iub"


def in_single(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with narrow floats widened to single precision before and rounded after."""

    def compute(*inputs: Array) -> Any:
        if is_narrow(inputs[0]):
            return np.asarray(function(*(x.astype(np.float32) for x in inputs))).astype(inputs[0].dtype)
        return function(*inputs)

    return compute


def divide_no_zero(x: Array, y: Array, divide: Callable[[Array, Array], Any]) -> Any:
    """Integer division. Raises `ValueError` where a divisor is zero or the quotient overflows, as TensorFlow traps."""
    if not np.all(y):
        raise ValueError("integer division by zero")
    if x.dtype.kind == "i" and np.any((y == -1) & (x == np.iinfo(x.dtype).min)):
        raise ValueError("integer division overflows")
    return divide(x, y)


# One input ----------------------------------------------------------------------------------------------------


def _rounded(x: Array) -> Any:
    if x.dtype.kind in "iu":  # the definition says `x`, TensorFlow's kernel says 0
        raise ValueError("rounding integers means different things in TensorFlow")
    return np.rint(x)


def _sign(x: Array) -> Any:
    if x.dtype.kind == "c":
        magnitude = np.abs(x)
        return np.where(magnitude == 0, 0, x / magnitude).astype(x.dtype)
    return np.sign(x)


def _reciprocal(x: Array) -> Any:
    return np.ones((), x.dtype) / x


def _relu6(x: Array) -> Any:
    return np.minimum(np.maximum(x, x.dtype.type(0)), x.dtype.type(6))


def _elu(x: Array) -> Any:
    return np.where(x < 0, np.expm1(x), x)


def _selu(x: Array) -> Any:
    kind = x.dtype.type
    return np.where(x < 0, kind(SELU_SCALED_ALPHA) * np.expm1(x), kind(SELU_SCALE) * x)


def _softplus(x: Array) -> Any:
    return np.logaddexp(x, x.dtype.type(0))


def _softsign(x: Array) -> Any:
    return x / (x.dtype.type(1) + np.abs(x))


def _sigmoid(x: Array) -> Any:
    if x.dtype.kind == "c":
        return (1 / (1 + np.exp(-x))).astype(x.dtype)
    decay = np.exp(-np.abs(x))
    one = x.dtype.type(1)
    return np.where(x < 0, decay / (one + decay), one / (one + decay))


def _leaky_relu(attrs: Any, x: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(in_single(lambda v: np.where(v > 0, v, v * v.dtype.type(attrs["alpha"])))(x))


UNARY: dict[str, tuple[Trait, Callable[..., Any]]] = {
    "Abs": (IDEMPOTENT, np.abs),
    "Neg": (INVOLUTION, np.negative),
    "Sign": (IDEMPOTENT, _sign),
    "Square": (ELEMENTWISE, np.multiply),
    "Sqrt": (ELEMENTWISE, np.sqrt),
    "Rsqrt": (ELEMENTWISE, in_single(lambda x: _reciprocal(np.sqrt(x)))),
    "Reciprocal": (ELEMENTWISE, _reciprocal),
    "Inv": (ELEMENTWISE, _reciprocal),
    "Ceil": (IDEMPOTENT, np.ceil),
    "Floor": (IDEMPOTENT, np.floor),
    "Round": (IDEMPOTENT, _rounded),
    "Rint": (IDEMPOTENT, np.rint),
    "Exp": (ELEMENTWISE, np.exp),
    "Expm1": (ELEMENTWISE, np.expm1),
    "Log": (ELEMENTWISE, np.log),
    "Log1p": (ELEMENTWISE, np.log1p),
    "Sin": (ELEMENTWISE, np.sin),
    "Cos": (ELEMENTWISE, np.cos),
    "Tan": (ELEMENTWISE, np.tan),
    "Asin": (ELEMENTWISE, np.arcsin),
    "Acos": (ELEMENTWISE, np.arccos),
    "Atan": (ELEMENTWISE, np.arctan),
    "Sinh": (ELEMENTWISE, np.sinh),
    "Cosh": (ELEMENTWISE, np.cosh),
    "Tanh": (ELEMENTWISE, np.tanh),
    "Asinh": (ELEMENTWISE, np.arcsinh),
    "Acosh": (ELEMENTWISE, np.arccosh),
    "Atanh": (ELEMENTWISE, np.arctanh),
    "Sigmoid": (ELEMENTWISE, in_single(_sigmoid)),
    "Relu": (IDEMPOTENT, lambda x: np.maximum(x, x.dtype.type(0))),
    "Relu6": (IDEMPOTENT, _relu6),
    "Elu": (ELEMENTWISE, in_single(_elu)),
    "Selu": (ELEMENTWISE, in_single(_selu)),
    "Softplus": (ELEMENTWISE, in_single(_softplus)),
    "Softsign": (ELEMENTWISE, in_single(_softsign)),
}


# Two inputs ---------------------------------------------------------------------------------------------------


def _true_divide(x: Array, y: Array) -> Any:
    return divide_no_zero(x, y, _truncated_quotient) if x.dtype.kind in "iu" else x / y


def _truncated_quotient(x: Array, y: Array) -> Any:
    quotient = x // y
    if x.dtype.kind == "u":
        return quotient
    inexact = quotient * y != x
    return quotient + (inexact & ((x < 0) != (y < 0))).astype(x.dtype)


def _truncate_divide(x: Array, y: Array) -> Any:
    return divide_no_zero(x, y, _truncated_quotient) if x.dtype.kind in "iu" else np.trunc(x / y)


def _floor_divide(x: Array, y: Array) -> Any:
    return divide_no_zero(x, y, np.floor_divide) if x.dtype.kind in "iu" else np.floor(x / y)


def _floor_modulo(x: Array, y: Array) -> Any:
    if x.dtype.kind in "iu":
        return divide_no_zero(x, y, np.remainder)
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


def _truncate_modulo(x: Array, y: Array) -> Any:
    return divide_no_zero(x, y, np.fmod) if x.dtype.kind in "iu" else np.fmod(x, y)


def _power(x: Array, y: Array) -> Any:
    if x.dtype.kind == "i" and np.any(y < 0):
        raise ValueError("integers cannot be raised to negative integer powers")
    return np.power(x, y)


def _squared_difference(x: Array, y: Array) -> Any:
    difference = x - y
    return difference * np.conj(difference) if x.dtype.kind == "c" else difference * difference


def _zero_where(condition: Array, value: Any) -> Any:
    return np.where(condition, value.dtype.type(0), value)


def _divide_no_nan(x: Array, y: Array) -> Any:
    return _zero_where(y == 0, x / y)


def _multiply_no_nan(x: Array, y: Array) -> Any:
    return _zero_where(y == 0, x * y)


def _divide_no_zero_numerator(x: Array, y: Array) -> Any:
    return _zero_where(x == 0, x / y)


def _x_log_y(x: Array, y: Array) -> Any:
    return _zero_where(x == 0, x * np.log(y))


def _x_log1p_y(x: Array, y: Array) -> Any:
    return _zero_where(x == 0, x * np.log1p(y))


COMMUTATIVE = Trait.ELEMENTWISE | Trait.COMMUTATIVE
BINARY: dict[str, tuple[Trait, Callable[..., Any]]] = {
    "Add": (COMMUTATIVE, np.add),
    "AddV2": (COMMUTATIVE, np.add),
    "Sub": (ELEMENTWISE, np.subtract),
    "Mul": (COMMUTATIVE, np.multiply),
    "Div": (ELEMENTWISE, _true_divide),
    "RealDiv": (ELEMENTWISE, _true_divide),
    "TruncateDiv": (ELEMENTWISE, _truncate_divide),
    "FloorDiv": (ELEMENTWISE, _floor_divide),
    "FloorMod": (ELEMENTWISE, _floor_modulo),
    "Mod": (ELEMENTWISE, _truncate_modulo),
    "TruncateMod": (ELEMENTWISE, _truncate_modulo),
    "Pow": (ELEMENTWISE, _power),
    "Maximum": (COMMUTATIVE, np.maximum),
    "Minimum": (COMMUTATIVE, np.minimum),
    "SquaredDifference": (COMMUTATIVE, _squared_difference),
    "DivNoNan": (ELEMENTWISE, _divide_no_nan),
    "MulNoNan": (ELEMENTWISE, _multiply_no_nan),
    "Xdivy": (ELEMENTWISE, _divide_no_zero_numerator),
    "Xlogy": (ELEMENTWISE, in_single(_x_log_y)),
    "Xlog1py": (ELEMENTWISE, in_single(_x_log1p_y)),
    "Atan2": (ELEMENTWISE, np.arctan2),
    "NextAfter": (ELEMENTWISE, np.nextafter),
}


def _add_strings(evaluate: Evaluation) -> Evaluation:
    """`Add` also joins strings, which AddV2 does not; NumPy's addition of objects does just that."""

    def add(attrs: Any, x: Array, y: Array) -> Array:
        if x.dtype == object:
            return np.asarray(x + y, dtype=object)
        return np.asarray(evaluate(attrs, x, y))

    return add


# Any number of inputs -----------------------------------------------------------------------------------------


def merged_shapes(context: InferenceContext) -> Sequence[Shape]:
    """All inputs have one and the same shape, which is the output's."""
    merged = UNKNOWN_SHAPE
    for shape in context.shapes():
        both = merged.merged(shape)
        if both is None:
            raise InferenceError(f"inputs of shapes {merged} and {shape} must be shaped alike")
        merged = both
    return [merged] * context.output_count


def accumulated_shape(context: InferenceContext) -> Sequence[Shape]:
    """The attribute says the shape; the inputs must agree with it."""
    declared = context.attrs.get("shape")
    (merged,) = merged_shapes(context)
    both = merged.merged(declared) if isinstance(declared, Shape) else merged
    if both is None:
        raise InferenceError(f"inputs of shape {merged} contradict the declared shape {declared}")
    return [both]


def add_all(attrs: Any, *inputs: Array) -> Array:
    """Sum of arrays of one shape, left to right."""
    if any(x.shape != inputs[0].shape for x in inputs):
        raise ValueError("the arrays to be added must be shaped alike")
    with np.errstate(all="ignore"):
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
    return np.array(total) if len(inputs) == 1 else np.asarray(total)


def _register() -> None:
    for name, (traits, function) in UNARY.items():
        compute = (lambda x: x * x) if name == "Square" else function
        register(f"tf.{name}", traits=traits, shape=same_as(), evaluate=evaluation(compute))
    register("tf.LeakyRelu", traits=ELEMENTWISE, shape=same_as(), evaluate=_leaky_relu)
    for name, (traits, function) in BINARY.items():
        evaluate = evaluation(function)
        register(
            f"tf.{name}", traits=traits, shape=broadcast, evaluate=_add_strings(evaluate) if name == "Add" else evaluate
        )
    register("tf.AddN", traits=COMMUTATIVE, shape=merged_shapes, evaluate=add_all)
    register("tf.AccumulateNV2", traits=COMMUTATIVE, shape=accumulated_shape, evaluate=add_all)


_register()
