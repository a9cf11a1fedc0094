"""Every operator of StableHLO that has a rule, as JAX writes it, against what JAX computes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]

Case = tuple[Callable[..., Any], list[Any], tuple[str, ...]]


def cases(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    random = np.random.default_rng(0)
    floats = random.standard_normal((3, 4)).astype(np.float32)
    more = random.standard_normal((3, 4)).astype(np.float32)
    return {
        "x": floats,
        "y": more,
        "positive": np.abs(floats) + np.float32(0.1),
        "unit": np.clip(floats, -0.9, 0.9),
        "i": random.integers(-9, 9, (3, 4)).astype(np.int32),
        "j": random.integers(1, 9, (3, 4)).astype(np.int32),
        "u": random.integers(0, 2**32, (3, 4)).astype(np.uint32),
        "b": floats > 0,
        "c": (floats + 1j * more).astype(np.complex64),
        "places": np.array([0, 2, 1], np.int32),
        "line": random.standard_normal((2, 12, 4)).astype(np.float32),
        "image": random.standard_normal((2, 9, 8, 4)).astype(np.float32),
        "volume": random.standard_normal((1, 5, 6, 7, 2)).astype(np.float32),
    }


UNARY = {
    "abs": "x", "neg": "x", "sign": "x", "floor": "x", "ceil": "x", "exp": "x", "expm1": "x", "log1p": "positive",
    "tanh": "x", "sin": "x", "cos": "x", "tan": "x", "logistic": "x", "round": "x", "sqrt": "positive",
    "rsqrt": "positive", "cbrt": "x", "erf": "x", "erfc": "x", "erf_inv": "unit", "asin": "unit", "acos": "unit",
    "atan": "x", "asinh": "x", "atanh": "unit", "sinh": "x", "cosh": "x", "lgamma": "positive", "digamma": "positive",
    "is_finite": "x", "log": "positive", "population_count": "i", "clz": "i", "bitwise_not": "i", "real": "c",
    "imag": "c", "conj": "c",
}  # fmt: skip
BINARY = {
    "add": "xy", "sub": "xy", "mul": "xy", "max": "xy", "min": "xy", "div": "xy", "rem": "xy", "atan2": "xy",
    "nextafter": "xy", "bitwise_and": "ij", "bitwise_or": "ij", "bitwise_xor": "ij", "shift_left": "ij",
    "shift_right_arithmetic": "ij", "shift_right_logical": "ij", "eq": "ij", "ne": "ij", "lt": "ij", "le": "ij",
    "gt": "ij", "ge": "ij",
}  # fmt: skip


@cases(*UNARY)
def test_operators_of_one_operand(name: str, arrays: dict[str, Any], agrees: Callable[..., Any]) -> None:
    from jax import lax

    agrees(getattr(lax, name), arrays[UNARY[name]])


@cases(*BINARY)
def test_operators_of_two_operands(name: str, arrays: dict[str, Any], agrees: Callable[..., Any]) -> None:
    from jax import lax

    agrees(getattr(lax, name), *(arrays[key] for key in BINARY[name]))


def element_by_element(a: dict[str, Any]) -> dict[str, Case]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    halves = np.array([0.5, 1.5, -2.5, 0.49999997, -0.3], np.float32)
    return {
        "halves": (lambda x: (lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
                              lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)), [halves], ("Round",)),
        "powers": (lambda x, y: (lax.pow(x, y), x**3), [a["positive"], a["y"]], ("Pow",)),
        "integers": (lambda i, j: (lax.div(i, j), lax.rem(i, j), i**3), [a["i"], a["j"]], ("TruncateDiv",)),
        "far shifts": (lambda i: (lax.shift_left(i, jnp.full_like(i, 40)), lax.shift_right_logical(i, i),
                                  lax.shift_right_arithmetic(i, jnp.full_like(i, 40))), [a["i"]], ()),
        "unsigned": (lambda u: (u << 3, u >> 5, u ^ (u >> 7)), [a["u"]], ("RightShift",)),
        "truth": (lambda b, c: (b & c, b | c, b ^ c, ~b, b < c, b == c), [a["b"], a["x"] > 0.5], ("LogicalAnd",)),
        "select": (lambda b, x, y: (jnp.where(b, x, y), lax.select(x[0, 0] > 0, x, y)),
                   [a["b"], a["x"], a["y"]], ("SelectV2",)),
        "clamp": (lambda x: (jnp.clip(x, -0.5, 0.5), lax.clamp(0.0, x * 5, 6.0), lax.clamp(x[0, 0], x, x[0, 0] + 1)),
                  [a["x"]], ("Relu6",)),
        "convert": (lambda x, i, b: (x.astype("int32"), i.astype("float32"), i.astype("bool"), b.astype("int8"),
                                     x.astype("float16").astype("float32")), [a["x"] * 5, a["i"], a["b"]], ("Cast",)),
        "bits": (lambda x: (lax.bitcast_convert_type(x, jnp.int32), lax.bitcast_convert_type(x, jnp.uint8),
                            lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint8), jnp.float32)),
                 [a["x"]], ("Bitcast",)),
        "precision": (lambda x: (lax.reduce_precision(x, 8, 7), lax.reduce_precision(x, 8, 23)), [a["x"]], ("Cast",)),
        "complex": (lambda c: (jnp.abs(c), c * c, lax.complex(c.real, c.imag), c * (1 + 2j), jnp.exp(c)),
                    [a["c"]], ("ComplexAbs",)),
        "bfloat16": (lambda x: (x.astype(jnp.bfloat16) * jnp.bfloat16(1.5)
                                + jnp.asarray([1, 2, 3, jnp.inf], jnp.bfloat16)).astype("float32"),
                     [np.round(a["x"])], ()),
        "wide": (lambda x, i: (jnp.tanh(x) * 2 + x.mean(), i * 3 + 1, i.argmax(1)),
                 [a["x"].astype(np.float64), a["i"].astype(np.int64)], ()),
        "activations": (lambda x: (jax.nn.silu(x), jax.nn.relu(x), jax.nn.relu6(x * 5), jax.nn.softplus(x),
                                   jax.nn.leaky_relu(x), jax.nn.elu(x), jax.nn.gelu(x, approximate=False),
                                   jax.nn.hard_swish(x), jax.nn.log_softmax(x), jax.nn.selu(x), jax.nn.glu(x)),
                        [a["x"]], ("Sigmoid", "Relu", "Relu6", "Erfc")),
        "barrier": (lambda x: lax.optimization_barrier((x, x + 1)), [a["x"]], ()),
        "ends": (lambda x, y: (x, x, jnp.float32(3), jnp.zeros((200, 30))), [a["x"], a["y"]], ("Fill",)),
        "random": (lambda k: (jax.random.uniform(jax.random.wrap_key_data(k), (3,)),
                              jax.random.bits(jax.random.wrap_key_data(k), (2,))),
                   [np.array([1, 2], np.uint32)], ("BitwiseXor",)),
    }  # fmt: skip


def moving_elements(a: dict[str, Any]) -> dict[str, Case]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    x, i = a["x"], a["places"]
    two, far = np.int32(2), np.int32(7)
    return {
        "broadcast": (lambda x: (jnp.broadcast_to(x[:, None, :], (3, 5, 4)), x.T[:, None] + x.T,
                                 jnp.ones((2, 3, 4)) * x), [x], ("BroadcastTo",)),
        "reshape": (lambda x: (x.reshape(2, 6) + 1, x.reshape(-1), x.reshape(3, 1, 4, 1), x.T), [x], ("Transpose",)),
        "slice": (lambda x: (x[1:, ::2], x[0], x[:, -1], x[::-1], x[..., 1:3]), [x], ("StridedSlice", "ReverseV2")),
        "computed slice": (lambda x, k: (lax.dynamic_slice(x, (k, k), (2, 2)), lax.dynamic_index_in_dim(x, k, 1), x[k]),
                           [x, two], ("Slice",)),
        "slice beyond": (lambda x, k: (lax.dynamic_slice(x, (k, k), (2, 2)), x[k]), [x, far], ("Slice",)),
        "update": (lambda x, y, k: (lax.dynamic_update_slice(x, y[:2, :3], (k, k)), x.at[k].set(x[0]),
                                    lax.dynamic_update_slice(x, x[:, :2], (k * 0, k)), x.at[:, k].add(1.0)),
                   [x, a["y"], np.int32(1)], ("TensorScatterUpdate",)),
        "join": (lambda x, y: (jnp.concatenate([x, y], 1), jnp.stack([x, y], 1)), [x, a["y"]], ("ConcatV2",)),
        "pad": (lambda x: (lax.pad(x, np.float32(0), ((1, 2, 0), (0, 1, 0))),
                           lax.pad(x, np.float32(1.5), ((1, -1, 0), (-1, 1, 0))),
                           lax.pad(x, np.float32(-1), ((1, 1, 2), (-1, -2, 1)))), [x], ("Pad", "PadV2")),
        "pad all away": (lambda x: lax.pad(x, np.float32(0), ((-1, -2, 0), (0, 0, 3))), [x], ()),
        "iota": (lambda x: x + lax.broadcasted_iota(jnp.float32, (3, 4), 1) + jnp.arange(3)[:, None], [x], ()),
        "take": (lambda x, i: (jnp.take(x, i, axis=0), jnp.take(x, i, axis=1), x[i, i], jnp.take(x, i, 0, mode="clip"),
                               x.at[i + 1].get(mode="fill")), [x, i], ("GatherV2", "GatherNd")),
        "take of two axes": (lambda x, i: (jnp.take(x, i, axis=1), x[:, i]),
                             [x, np.array([[0, 2], [5, -1]], np.int32)], ("GatherV2",)),
        "take along": (lambda x, i: (jnp.take_along_axis(x, i, 1), jnp.take_along_axis(x, i % 3, 0)),
                       [x, np.abs(a["i"]) % 4], ("GatherNd",)),
        "rows of boxes": (lambda x, i: (jax.vmap(lambda r, k: lax.dynamic_slice(r, (k,), (2,)))(x, i),
                                        jax.vmap(lambda k: lax.dynamic_slice(x, (k, np.int32(1)), (2, 2)))(i)),
                          [x, i], ("GatherNd",)),
        "one hot": (lambda i: jax.nn.one_hot(i, 5), [np.array([0, 2, 7], np.int32)], ()),
        "scatter": (lambda x, i, y: (x.at[i].set(y), x.at[i].add(y), x.at[i].max(y), x.at[i].min(y),
                                     x.at[:, i].add(y[:, :3]), x.at[i, 1].add(2.0)), [x, i, a["y"]],
                    ("TensorScatterUpdate", "TensorScatterAdd", "TensorScatterMax", "TensorScatterMin")),
        "scatter beyond": (lambda x, i, y: (x.at[i].set(y), x.at[i].add(y)),
                           [x, np.array([0, 7, 1], np.int32), a["y"]], ("TensorScatterUpdate",)),
        "scatter to known places": (lambda x: (x.at[1:3].set(0.0), x.at[::2].set(1.0), x.at[0, 1].set(2.0)), [x], ()),
        "rows of updates": (lambda x, i, y: (jax.vmap(lambda r, k, v: lax.dynamic_update_slice(r, v, (k,)))(x, i, y),
                                             jax.vmap(lambda r, k, v: r.at[k].add(v[0]))(x, i, y)),
                            [x, i, a["y"][:, :2]], ("TensorScatterAdd",)),
        "segments": (lambda x, i: jax.ops.segment_sum(x, i, num_segments=4), [x, np.array([0, 2, 0], np.int32)], ()),
        "shuffles": (lambda x: (jnp.roll(x, 1, 1), jnp.repeat(x, 2, 1), jnp.tile(x, (2, 1)), jnp.tril(x),
                                jnp.diag(x[:3, :3])), [x], ()),
    }  # fmt: skip


def products(a: dict[str, Any]) -> dict[str, Case]:
    import jax.numpy as jnp
    from jax import lax

    x, y, line = a["x"], a["y"], a["line"]
    heads = line.reshape(2, 12, 2, 2)
    both = (((1,), (1,)), ((), ()))
    return {
        "matrices": (lambda x, y: (x @ y.T, x.T @ y, x @ y[0], jnp.dot(x[0], y[0]), jnp.outer(x[0], y[0])),
                     [x, y], ("MatMul",)),
        "rows": (lambda a, w: a @ w, [line, x.T.copy()], ("BatchMatMulV2",)),
        "batches": (lambda a: jnp.einsum("btd,bsd->bts", a, a), [line], ("BatchMatMulV2",)),
        "heads": (lambda q: (jnp.einsum("bthd,bshd->bhts", q, q), jnp.tensordot(q, q, ((0, 1), (0, 1)))),
                  [heads], ("Einsum",)),
        "half": (lambda x, y: lax.dot_general(x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), both,
                                              preferred_element_type=jnp.float32), [np.round(x), np.round(y)], ()),
        "bytes": (lambda i, j: lax.dot_general(i.astype(jnp.int8), j.astype(jnp.int8), both,
                                               preferred_element_type=jnp.int32), [a["i"], a["j"]], ("MatMul",)),
    }  # fmt: skip


def reductions(a: dict[str, Any]) -> dict[str, Case]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    x, image, volume = a["x"], a["image"], a["volume"]
    low, high, zero = np.float32(-np.inf), np.float32(np.inf), np.float32(0)

    def window(x: Any, start: Any, function: Any, sizes: Any, steps: Any, padding: Any, **more: Any) -> Any:
        return lax.reduce_window(x, start, function, (1, *sizes, 1), (1, *steps, 1), padding, **more)

    ones = np.ones((1, 9, 8, 1), np.float32)
    return {
        "reduce": (lambda x: (x.sum(), x.sum(0), x.max(1), x.min((0, 1)), x.prod(1), x.mean(1), jnp.any(x > 0, 1),
                              x.mean((0, 1), keepdims=True), jnp.all(x > 0), x.var(1), jax.nn.logsumexp(x, 1)),
                   [x], ("Sum", "Max", "Min", "Prod", "Mean", "Any", "All")),
        "reduce integers": (lambda i: (i.sum(), i.max(1), i.min(0), i.prod(1)), [a["i"]], ()),
        "softmax": (lambda x: jax.nn.softmax(x), [x], ("Max", "Exp", "Sum", "RealDiv")),
        "places": (lambda x, i: (x.argmax(), x.argmax(1), x.argmin(0), i.argmax(1)), [x, a["i"]], ("ArgMax", "ArgMin")),
        "maximum pool": (lambda x: (window(x, low, lax.max, (2, 2), (2, 2), "VALID"),
                                    window(x, low, lax.max, (3, 3), (2, 2), "SAME"),
                                    window(x, low, lax.max, (3, 3), (1, 1), ((0, 0), (2, 0), (0, 2), (0, 0))),
                                    window(x, high, lax.min, (3, 3), (2, 2), "SAME")), [image], ("MaxPool",)),
        "average pool": (lambda x: (window(x, zero, lax.add, (2, 2), (2, 2), "VALID") / 4,
                                    window(x, zero, lax.add, (3, 3), (2, 2), "SAME")
                                    / window(ones, zero, lax.add, (3, 3), (2, 2), "SAME"),
                                    window(x, zero, lax.add, (3, 3), (1, 1), "SAME")), [image], ("AvgPool",)),
        "pool of channels first": (lambda x: lax.reduce_window(x, low, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"),
                                   [image], ("Transpose",)),
        "pool along a line": (lambda x: window(x, low, lax.max, (3,), (2,), "SAME"), [a["line"]], ("MaxPool",)),
        "pool in space": (lambda x: (window(x, low, lax.max, (2, 2, 2), (2, 2, 2), "VALID"),
                                     window(x, zero, lax.add, (2, 2, 2), (2, 2, 2), "VALID")),
                          [volume], ("MaxPool3D", "AvgPool3D")),
        "dilated windows": (lambda x: window(x, zero, lax.add, (2, 2), (1, 1), "VALID", window_dilation=(1, 2, 2, 1),
                                             base_dilation=(1, 2, 1, 1)), [image], ()),
        "so far": (lambda x: (jnp.cumsum(x, 0), jnp.cumprod(x, 1), lax.cummax(x, 1), lax.cummin(x, 0, reverse=True),
                              lax.cumsum(x, 1, reverse=True)), [x], ("Cumsum", "Cumprod")),
        "sort": (lambda x, i: (jnp.sort(x), jnp.sort(x, 0), jnp.argsort(x), jnp.argsort(x, axis=0, descending=True),
                               lax.sort((x, x * 2), num_keys=1), jnp.sort(i)), [x, a["i"]], ("TopKV2",)),
        "top k": (lambda x: lax.top_k(x, 2), [x], ("TopKV2",)),
        "median": (lambda x: jnp.median(x, 1), [x], ()),
        "transforms": (lambda x, c: (jnp.fft.fft(c), jnp.fft.ifft(c), jnp.fft.rfft(x), jnp.fft.irfft(c),
                                     jnp.fft.fft2(c)), [x, a["c"]], ("FFT", "IFFT", "RFFT", "IRFFT", "FFT2D")),
    }  # fmt: skip


def control(a: dict[str, Any]) -> dict[str, Case]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    x = a["x"]
    return {
        "while": (lambda x: lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, jnp.tanh(s[1] + x)), (0, x)),
                  [x], ("StatelessWhile",)),
        "for": (lambda x: lax.fori_loop(0, 3, lambda i, c: c.at[i].set(c[i] * 2 + i), x), [x], ("StatelessWhile",)),
        "scan": (lambda x: lax.scan(lambda c, t: (jnp.tanh(c * t), c + t), x[0], x), [x], ("StatelessWhile",)),
        "nested": (lambda x: lax.fori_loop(0, 2, lambda i, c: lax.fori_loop(0, i + 1, lambda j, d: d * x + j, c), x),
                   [x], ("StatelessWhile",)),
        "if": (lambda x: lax.cond(x.sum() > 0, lambda y: y + x, lambda y: y * 2, x), [x], ("StatelessIf",)),
        "case": (lambda x, k: lax.switch(k, [lambda y: y, lambda y: y * 2, lambda y: y - x], x),
                 [x, np.int32(2)], ("StatelessCase",)),
        "map": (lambda x: jax.lax.map(lambda r: r * 2 + 1, x), [x], ()),
        "search": (lambda x: jnp.searchsorted(jnp.sort(x[0]), x[1]), [x], ()),
        "attention": (lambda q: jax.nn.dot_product_attention(q, q, q, is_causal=True),
                      [a["line"].reshape(2, 12, 2, 2)], ()),
        "resize": (lambda x: jax.image.resize(x, (2, 18, 16, 4), "bilinear"), [a["image"]], ()),
    }  # fmt: skip


@pytest.mark.parametrize("family", [element_by_element, moving_elements, products, reductions, control])
def test_families(family: Callable[..., dict[str, Case]], arrays: dict[str, Any], agrees: Callable[..., Any]) -> None:
    for name, (function, arguments, expected) in family(arrays).items():
        try:
            agrees(function, *arguments, expected=expected)
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error


CONVOLUTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "same": ({}, "Conv2D"),
    "valid": ({"padding": "VALID", "window_strides": (2, 2)}, "Conv2D"),
    "same, strided": ({"window_strides": (2, 2)}, "Conv2D"),
    "explicit": ({"padding": ((2, 0), (1, 3))}, "Pad"),
    "negative": ({"padding": ((-1, 0), (1, 3))}, "StridedSlice"),
    "dilated": ({"rhs_dilation": (2, 2)}, "Conv2D"),
    "grouped": ({"kernel": (3, 3, 2, 6), "feature_group_count": 2}, "Conv2D"),
    "depthwise": ({"kernel": (3, 3, 1, 8), "feature_group_count": 4}, "DepthwiseConv2dNative"),
    "depthwise, dilated": (
        {"kernel": (3, 3, 1, 4), "feature_group_count": 4, "rhs_dilation": (2, 2)}, "DepthwiseConv2dNative",
    ),
    "depthwise, two strides": (
        {"kernel": (3, 3, 1, 4), "feature_group_count": 4, "window_strides": (2, 1)}, "Conv2D",
    ),
    "transposed": ({"lhs_dilation": (2, 2), "padding": ((1, 2), (1, 2))}, "Conv2DBackpropInput"),
    "transposed, whole": ({"lhs_dilation": (2, 2), "padding": ((2, 2), (2, 2))}, "Conv2DBackpropInput"),
    "transposed, cut and padded": ({"lhs_dilation": (3, 2), "padding": ((0, 1), (4, 3))}, "Conv2DBackpropInput"),
    "transposed and strided": (
        {"lhs_dilation": (2, 2), "window_strides": (2, 1), "padding": ((1, 1), (1, 1))}, "Conv2D",
    ),
    "channels first": ({"kernel": (6, 9, 3, 3), "dimension_numbers": ("NCHW", "OIHW", "NCHW")}, "Transpose"),
    "line": ({"kernel": (3, 4, 5), "dimension_numbers": ("NWC", "WIO", "NWC"), "window_strides": (2,)}, "Conv2D"),
    "space": ({"kernel": (2, 3, 3, 2, 5), "dimension_numbers": ("NDHWC", "DHWIO", "NDHWC"),
               "window_strides": (1, 2, 1)}, "Conv3D"),
}  # fmt: skip


@cases(*CONVOLUTIONS)
def test_convolutions(name: str, arrays: dict[str, Any], agrees: Callable[..., Any]) -> None:
    from jax import lax

    given, expected = CONVOLUTIONS[name]
    options = dict(given)
    kernel = np.random.default_rng(1).standard_normal(options.pop("kernel", (3, 3, 4, 6))).astype(np.float32)
    options.setdefault("dimension_numbers", ("NHWC", "HWIO", "NHWC"))
    options.setdefault("window_strides", (1,) * (kernel.ndim - 2))
    options.setdefault("padding", "SAME")
    x = arrays[{3: "line", 4: "image", 5: "volume"}[kernel.ndim]]
    agrees(lambda x: lax.conv_general_dilated(x, kernel, **options), x, expected=expected, rtol=1e-4, atol=1e-4)


def test_convolutions_transposed_as_jax_pads_them(arrays: dict[str, Any], agrees: Callable[..., Any]) -> None:
    from jax import lax

    kernel = np.random.default_rng(1).standard_normal((4, 3, 4, 2)).astype(np.float32)
    for padding in ("SAME", "VALID"):
        agrees(
            lambda x, padding=padding: lax.conv_transpose(x, kernel, (2, 3), padding), arrays["image"],
            expected="Conv2DBackpropInput", rtol=1e-4, atol=1e-4,
        )  # fmt: skip


@cases("erfc", "erf_inv", "lgamma", "digamma", "asinh", "acosh", "atanh", "sinh", "cosh")
def test_what_jax_writes_out_is_one_operator(name: str, imported: Callable[..., Any]) -> None:
    import jax
    from jax import lax

    model = imported(getattr(lax, name), jax.ShapeDtypeStruct((2, 3), np.float32))
    operator = name.title().replace("_I", "i")
    assert [node.op for node in model.graph if node.inputs] == [f"tf.{operator}", "tf.Identity"]


def test_what_is_written_out_twice_is_not_taken_for_once(arrays: dict[str, Any], agrees: Callable[..., Any]) -> None:
    from jax import lax

    agrees(lambda x: lax.erfc(lax.erfc(x)), arrays["x"])
