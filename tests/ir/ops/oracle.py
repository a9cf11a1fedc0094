"""TensorFlow as the oracle of the operator table: one call runs an operator both ways and compares everything.

`check_operator` runs an operator eagerly in TensorFlow and through the table: evaluation against values and dtypes,
shape inference against the actual shapes, with the inputs known, unknown, and symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from graphopt.ir import ops
from graphopt.ir.dimensions import Dim, symbol
from graphopt.ir.errors import Error
from graphopt.ir.graph import Graph
from graphopt.ir.ops import Interface, interface
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.types import DTYPES_BY_CODE, STRING, UNKNOWN_SHAPE, DType, Shape, TensorType, dtype_of

REFUSALS = (ValueError, TypeError, IndexError, ArithmeticError, Error)  # what evaluation and inference may raise
TOLERANCES = {  # relative, absolute
    "float64": (1e-10, 1e-12),
    "complex128": (1e-10, 1e-12),
    "float32": (1e-5, 1e-6),
    "complex64": (1e-5, 1e-6),
    "float16": (2e-3, 1e-4),
    "bfloat16": (1.6e-2, 1e-3),
}
Array = np.ndarray[Any, Any]


def check_operator(
    op_type: str,
    inputs: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    exact: bool = False,
    refusal: bool = False,
    may_refuse: bool = False,
    evaluates: bool = True,
    inferable: bool = True,
    values: bool = True,
    compare: Callable[[int, Array, Array], None] | None = None,
) -> list[Array] | None:
    """Compare the table's `tf.<op_type>` with TensorFlow on `inputs`; returns TensorFlow's outputs, None if it raised.

    `attrs` are attributes as the IR has them (`DType`, `bytes`, `Shape`, tuples, …). Types and counts that the inputs
    decide may be left out; give those of quantized types, which are handed over as plain integers.

    `exact`: bit for bit, signed zeros included (NaN payloads aside). `rtol`, `atol`: instead of the defaults by dtype.
    `refusal`: where TensorFlow raises, the table need not. `may_refuse`: the evaluation may raise where TensorFlow
    does not. `evaluates=False`: the operator has no evaluation, only shapes. `inferable=False`: the shapes depend on
    values, so inference may leave them open. `values=False`: compare dtypes and shapes of the results, not the values.
    `compare(index, ours, theirs)`: instead of the comparison of values.
    """
    arrays = [_array(item) for item in inputs]
    declared = interface(op_type)
    assert declared is not None, f"TensorFlow has no operator {op_type}"
    complete = complete_attributes(declared, arrays, attrs or {})
    operator = ops.find(f"tf.{op_type}")
    assert operator is not None
    assert operator.shape is not None, f"tf.{op_type} has no shape inference"
    assert (operator.evaluate is not None) == evaluates, f"tf.{op_type}: evaluates={evaluates}"
    expected = run_tensorflow(declared, arrays, complete)
    if isinstance(expected, Exception):
        if not refusal:
            _assert_refused(op_type, arrays, complete, expected)
        return None
    check_inference(op_type, arrays, complete, expected, inferable)
    if operator.evaluate is not None:
        try:
            actual = evaluate(op_type, arrays, complete)
        except REFUSALS:
            if not may_refuse:
                raise
            return expected
        assert len(actual) == len(expected), f"{len(actual)} outputs instead of {len(expected)}"
        types = declared.output_types(complete)
        for index, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
            place = f"tf.{op_type} output {index}"
            assert types[index].dtype.numpy == theirs.dtype, f"{place}: interface says {types[index].dtype.name}"
            assert isinstance(ours, np.ndarray | np.generic), f"{place}: a {type(ours).__name__} is no array"
            assert ours.dtype == theirs.dtype, f"{place}: dtype {ours.dtype} instead of {theirs.dtype}"
            assert ours.shape == theirs.shape, f"{place}: shape {ours.shape} instead of {theirs.shape}"
            if compare is not None:
                compare(index, np.asarray(ours), theirs)
            elif values:
                assert_same(np.asarray(ours), theirs, rtol, atol, exact, place)
    return expected


# Both sides ---------------------------------------------------------------------------------------------------


def complete_attributes(declared: Interface, arrays: Sequence[Array], attrs: dict[str, Any]) -> dict[str, Any]:
    """`attrs` with the types and counts that the inputs decide."""
    complete = dict(attrs)
    variable = [a for a in declared.inputs if a.number_attr or a.list_attr]
    unsized = [a for a in variable if (a.number_attr or a.list_attr) not in complete]
    if unsized:
        assert len({a.number_attr for a in unsized}) == 1, f"{declared.name}: say how many inputs each argument takes"
        rest = len(arrays) - len(declared.inputs) + len(variable)
        taken = sum(len(complete[a.list_attr]) if a.list_attr else complete[a.number_attr]
                    for a in variable if a not in unsized)  # fmt: skip
        count = (rest - taken) // len(unsized)
    place = 0
    for argument in declared.inputs:
        size = 1
        if argument.number_attr:
            size = complete.setdefault(argument.number_attr, count if unsized else 0)
        elif argument.list_attr:
            size = len(complete[argument.list_attr]) if argument.list_attr in complete else count
            complete.setdefault(argument.list_attr, tuple(dtype_of(a) for a in arrays[place : place + size]))
        if argument.type_attr and size:
            complete.setdefault(argument.type_attr, dtype_of(arrays[place]))
        place += size
    assert place == len(arrays), f"{declared.name} takes {place} inputs, not {len(arrays)}"
    return complete


def run_tensorflow(declared: Interface, arrays: Sequence[Array], attrs: dict[str, Any]) -> list[Array] | Exception:
    """TensorFlow's outputs, or what it raised."""
    import tensorflow as tf
    from tensorflow.python.eager import context, execute

    types = declared.input_types(attrs)
    tensors = []
    for array, dtype in zip(arrays, types, strict=True):
        held = tf.constant(array, tf.string) if dtype is STRING else tf.constant(array)
        tensors.append(tf.bitcast(held, tf.as_dtype(dtype.code)) if dtype.is_quantized else held)
    given = {name: value for name, value in declared.with_defaults(attrs).items() if value is not None}
    flat = [item for name, value in given.items() for item in (name, _tensorflow_attribute(value))]
    count = len(declared.output_types(attrs))
    context.ensure_initialized()
    try:
        outputs = execute.quick_execute(declared.name, count, tensors, tuple(flat), context.context())
    except (tf.errors.OpError, ValueError, TypeError) as error:
        if isinstance(error, tf.errors.NotFoundError | tf.errors.UnimplementedError):
            raise AssertionError(f"TensorFlow has no kernel for this: {error}") from error
        return error
    return [_numpy(output) for output in outputs or ()]


def evaluate(op_type: str, arrays: Sequence[Array], attrs: dict[str, Any]) -> list[Array]:
    """The table's evaluation, as a list; checks that it leaves its inputs alone and warns of nothing."""
    operator = ops.find(f"tf.{op_type}")
    assert operator is not None
    assert operator.interface is not None
    assert operator.evaluate is not None
    frozen = [array.view() for array in arrays]
    for array in frozen:
        array.flags.writeable = False
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        result = operator.evaluate(operator.interface.with_defaults(attrs), *frozen)
    return list(result) if isinstance(result, list | tuple) else [result]


def infer(op_type: str, arrays: Sequence[Array], attrs: dict[str, Any], shapes: Sequence[Shape | None]) -> list[Shape]:
    """The table's shapes where input `i` is a constant if `shapes[i]` is None, else a placeholder of that shape."""
    operator = ops.find(f"tf.{op_type}")
    assert operator is not None
    assert operator.interface is not None
    assert operator.shape is not None
    graph = Graph()
    values = []
    for array, dtype, shape in zip(arrays, operator.interface.input_types(attrs), shapes, strict=True):
        if shape is None:
            held = {"dtype": dtype, "value": ArrayTensor(array, dtype)}
            node = graph.create_node("tf.Const", attrs=held, types=(TensorType(dtype, Shape(array.shape)),))
        else:
            node = graph.create_node("tf.Placeholder", attrs={"dtype": dtype}, types=(TensorType(dtype, shape),))
        values.append(node.output)
    types = operator.interface.output_types(attrs)
    node = graph.create_node(f"tf.{op_type}", values, dict(attrs), types=types)
    inferred = list(operator.shape(InferenceContext(node)))
    assert len(inferred) == len(types), f"tf.{op_type}: {len(inferred)} shapes for {len(types)} outputs"
    assert all(isinstance(shape, Shape) for shape in inferred), f"tf.{op_type}: {inferred} are not all shapes"
    return inferred


# Shapes -------------------------------------------------------------------------------------------------------


def check_inference(
    op_type: str, arrays: Sequence[Array], attrs: dict[str, Any], expected: Sequence[Array], inferable: bool = True
) -> None:
    """Inference from constants is complete (if `inferable`); from less it may say less, but never what is wrong."""
    known = infer(op_type, arrays, attrs, [None] * len(arrays))
    for index, (shape, actual) in enumerate(zip(known, expected, strict=True)):
        place = f"tf.{op_type} output {index}, constant inputs"
        assert_compatible(shape, actual.shape, place)
        assert not inferable or shape.static == actual.shape, f"{place}: {shape} leaves {actual.shape} open"
    for description, shapes, sizes in _views(arrays):
        for index, shape in enumerate(infer(op_type, arrays, attrs, shapes)):
            assert_compatible(
                shape.substitute(sizes), expected[index].shape, f"tf.{op_type} output {index}, {description}"
            )


def assert_compatible(inferred: Shape, actual: tuple[int, ...], place: str) -> None:
    """Nothing that `inferred` claims contradicts `actual`."""
    message = f"{place}: {inferred} inferred where the shape is {list(actual)}"
    if inferred.dims is not None:
        assert len(inferred.dims) == len(actual), message
        assert all(dim == size for dim, size in zip(inferred.dims, actual, strict=True) if isinstance(dim, int)), (
            message
        )


def _views(arrays: Sequence[Array]) -> Iterator[tuple[str, list[Shape | None], dict[str, int]]]:
    """What may be known of the inputs: (description, shapes or None for a constant, values of the symbols)."""
    own = {f"i{i}d{d}": size for i, array in enumerate(arrays) for d, size in enumerate(array.shape)}
    shared = {f"size{size}": size for array in arrays for size in array.shape}
    parameters = [i > 0 and a.ndim <= 1 and a.dtype.kind in "iu" for i, a in enumerate(arrays)]

    def keeping(shape_of: Callable[[int, Array], Shape]) -> list[Shape | None]:
        return [None if parameters[i] else shape_of(i, a) for i, a in enumerate(arrays)]

    def distinct(place: int, array: Array) -> Shape:
        return Shape(symbol(f"i{place}d{axis}") for axis in range(array.ndim))

    def equal(place: int, array: Array) -> Shape:
        return Shape(symbol(f"size{size}") for size in array.shape)

    def mixed(place: int, array: Array) -> Shape:
        dims: list[Dim] = [size if (place + axis) % 2 else None for axis, size in enumerate(array.shape)]
        return Shape(dims)

    yield "shapes known, values unknown", [Shape(a.shape) for a in arrays], {}
    yield "symbolic dimensions", keeping(distinct), own
    yield "symbolic dimensions, equal sizes named alike", keeping(equal), shared
    yield "some dimensions unknown", keeping(mixed), {}
    yield "dimensions unknown", [Shape([None] * a.ndim) for a in arrays], {}
    yield "ranks unknown, parameters known", keeping(lambda place, array: UNKNOWN_SHAPE), {}
    yield "nothing known", [UNKNOWN_SHAPE] * len(arrays), {}


# Values -------------------------------------------------------------------------------------------------------


def assert_same(
    ours: Array,
    theirs: Array,
    rtol: float | None = None,
    atol: float | None = None,
    exact: bool = False,
    place: str = "",
) -> None:
    """`ours` equals `theirs`, within tolerance for floats; NaN and infinities sit at the same places."""
    name = theirs.dtype.name
    if name not in TOLERANCES and not name.startswith("float"):
        assert np.array_equal(ours, theirs), f"{place}: {_difference(ours, theirs, ours != theirs)}"
        return
    if exact:
        rtol = atol = 0.0
    default = TOLERANCES.get(name, (0.0, 0.0))
    wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
    left, right = ours.astype(wide), theirs.astype(wide)
    with np.errstate(all="ignore"):
        limit = (default[1] if atol is None else atol) + (default[0] if rtol is None else rtol) * np.abs(right)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        close = np.isfinite(left) & np.isfinite(right) & (np.abs(left - right) <= limit)
        good = same | close
        if exact and wide is np.float64:
            good &= (np.signbit(left) == np.signbit(right)) | np.isnan(right)
    assert np.all(good), f"{place}: {_difference(ours, theirs, ~good)}"


def _difference(ours: Array, theirs: Array, wrong: Array) -> str:
    places = np.argwhere(np.broadcast_to(wrong, theirs.shape))
    first = tuple(int(i) for i in places[0]) if len(places) else ()
    return f"{len(places)} of {theirs.size} differ, first at {first}: {ours[first]!r} instead of {theirs[first]!r}"


def _assert_refused(op_type: str, arrays: Sequence[Array], attrs: dict[str, Any], error: Exception) -> None:
    try:
        infer(op_type, arrays, attrs, [None] * len(arrays))
        result = evaluate(op_type, arrays, attrs) if ops.find(f"tf.{op_type}").evaluate else None  # type: ignore[union-attr]
    except REFUSALS:
        return
    raise AssertionError(f"tf.{op_type} gives {result} where TensorFlow raises: {error}")


def _array(item: Any) -> Array:
    array = np.asarray(item)
    if array.dtype.kind in "SU":
        return np.array([s.encode() if isinstance(s, str) else s for s in array.reshape(-1).tolist()], object).reshape(
            array.shape
        )
    return array


def _numpy(output: Any) -> Array:
    dtype = DTYPES_BY_CODE[output.dtype.as_datatype_enum]
    result = np.asarray(output.numpy(), dtype.numpy) if dtype is STRING else np.asarray(output.numpy())
    return result if result.dtype == dtype.numpy or dtype.numpy is None else result.view(dtype.numpy)


def _tensorflow_attribute(value: Any) -> Any:
    import tensorflow as tf

    if isinstance(value, DType):
        return value.code
    if isinstance(value, Shape):
        return tf.TensorShape(value.dims)
    if isinstance(value, Tensor):
        return tf.make_tensor_proto(value.numpy())
    return [_tensorflow_attribute(item) for item in value] if isinstance(value, tuple) else value


# Strategies ---------------------------------------------------------------------------------------------------

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
INTEGERS = (np.int32, np.int64, np.int8, np.int16, np.uint8, np.uint16, np.uint32, np.uint64)
SIGNED = (np.int32, np.int64, np.int8, np.int16)
COMPLEX = (np.complex64, np.complex128)


def words(text: str) -> list[str]:
    """Names in a row, for `parametrize`."""
    return text.split()


def shapes(min_rank: int = 0, max_rank: int = 4, max_dim: int = 4, *, zeros: bool = True) -> st.SearchStrategy[Any]:
    """Static shapes; empty ones too unless `zeros` is False."""
    dims = st.integers(0 if zeros else 1, max_dim)
    return st.lists(dims, min_size=min_rank, max_size=max_rank).map(tuple)


def dtypes(*groups: Any) -> st.SearchStrategy[Any]:
    """One NumPy type of the groups or types given."""
    flat = [np.dtype(item) for group in groups for item in (group if isinstance(group, tuple) else (group,))]
    return st.sampled_from(flat)


@st.composite
def broadcastable(draw: Any, count: int = 2, max_rank: int = 4, max_dim: int = 4) -> tuple[tuple[int, ...], ...]:
    """Shapes that broadcast against one another, empty ones included."""
    result = draw(shapes(0, max_rank, max_dim))
    found = []
    for _ in range(count):
        kept = result[draw(st.integers(0, len(result))) :] if draw(st.booleans()) else result
        found.append(tuple(1 if draw(st.integers(0, 3)) == 0 else size for size in kept))
    return tuple(found)


def edge_values(dtype: Any, denormals: bool = False) -> Array:
    """The awkward values of a type: extremes, signed zeros, NaN, infinities, and denormals if asked for.

    Arithmetic in TensorFlow flushes denormals to zero on the CPU, so only operators that move values keep them.
    """
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return np.array([False, True])
    if dtype.kind in "iu" or dtype.name in ("int4", "uint4"):
        info = ml_dtypes.iinfo(dtype)
        return np.array([info.min, info.max, 0, 1, -1 if info.min else 2, info.max - 1], dtype)
    if dtype.kind == "c":
        part = np.dtype(np.float32 if dtype == np.complex64 else np.float64)
        real = edge_values(part, denormals)
        both = np.empty(real.shape, dtype)
        both.real, both.imag = real, real[::-1]
        return both
    info = ml_dtypes.finfo(dtype)
    listed = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, info.max, info.min, info.tiny, -info.tiny, info.eps,
              np.inf, -np.inf, np.nan, *([info.smallest_subnormal] if denormals else [])]  # fmt: skip
    return np.array([float(item) for item in listed]).astype(dtype)


@st.composite
def arrays(
    draw: Any,
    dtype: Any,
    shape: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    edges: bool | None = None,
    denormals: bool = False,
) -> Array:
    """An array of `dtype` and `shape` (either may be a strategy).

    Values lie between `low` and `high`; without bounds, spread around zero and mixed with `edge_values` (unless
    `edges` is False). Drawn by one seed, so it is quick for any size.
    """
    dtype = np.dtype(draw(dtype) if isinstance(dtype, st.SearchStrategy) else dtype)
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    random = np.random.RandomState(draw(st.integers(0, 2**20)))
    bounded = low is not None or high is not None
    values = _random_values(random, dtype, shape, low, high)
    if (not bounded) if edges is None else edges:
        awkward = random.choice(edge_values(dtype, denormals), size=shape)
        share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
        values = np.where(random.uniform(size=shape) < share, awkward, values)
    return np.asarray(values, dtype)


def _random_values(random: Any, dtype: Any, shape: Any, low: float | None, high: float | None) -> Array:
    if dtype == np.bool_:
        return np.asarray(random.randint(0, 2, shape), np.bool_)
    if dtype.kind in "iu" or dtype.name in ("int4", "uint4"):
        info = ml_dtypes.iinfo(dtype)
        bottom = max(-20, int(info.min)) if low is None else int(low)
        top = min(20, int(info.max)) if high is None else int(high)
        return np.asarray(random.randint(bottom, top + 1, shape)).astype(dtype)
    bottom, top = (-4.0 if low is None else low), (4.0 if high is None else high)
    if dtype.kind == "c":
        return np.asarray(random.uniform(bottom, top, shape) + 1j * random.uniform(bottom, top, shape)).astype(dtype)
    return np.asarray(random.uniform(bottom, top, shape)).astype(dtype)
