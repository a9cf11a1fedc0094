"""What TensorRT takes, as data: operators of ONNX, element types, which inputs must be constants.

From TensorRT 11's operator table and from what its builder was seen to take and to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir.types import DTYPES, DType

MOST_K = 3840  # of TopK; the builder refuses more
FLOATS = frozenset({"float32", "float16", "bfloat16"})
NUMBERS = FLOATS | {"int32", "int64"}
ANY = NUMBERS | {"bool"}
TRUTH = frozenset({"bool"})
STORED = frozenset({"int8", "uint8", "float8_e4m3fn", "int4", "float4_e2m1fn"})  # between Q and DQ, or cast at once


def _table(kinds: frozenset[str], names: str) -> dict[str, frozenset[str]]:
    return dict.fromkeys(names.split(), kinds)


# operator -> element types of the first input that counts
OPERATORS: Mapping[str, frozenset[str]] = {
    **_table(
        FLOATS,
        """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Conv ConvTranspose Cos Cosh Elu Erf
        Exp Floor GRU Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample GroupNormalization HardSigmoid
        HardSwish Hardmax InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax
        LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization Mish NonMaxSuppression PRelu RNN
        Reciprocal Resize RoiAlign Round Selu Shrink Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh
        ThresholdedRelu
        """,
    ),
    **_table(
        NUMBERS,
        """
        Abs Add ArgMax ArgMin Clip CumSum DepthToSpace Div Einsum Greater GreaterOrEqual Less LessOrEqual Max Mean Min
        Mod Mul Neg Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Relu Sign SpaceToDepth Sub Sum TopK
        """,
    ),
    **_table(
        ANY,
        """
        Cast Concat Constant ConstantOfShape Equal Expand EyeLike Flatten Gather GatherElements GatherND Identity
        OneHot Pad Reshape ReverseSequence ScatterElements ScatterND Shape Size Slice Split Squeeze Tile Transpose
        Trilu Unsqueeze Where
        """,
    ),
    **_table(TRUTH, "And If Not Or Xor"),
    **_table(ANY | STORED, "DequantizeLinear Loop QuantizeLinear Scan"),
}  # fmt: skip
PLUGINS = frozenset({"TRT.EfficientNMS_TRT"})  # of TensorRT's own library, which it looks up by name
FIRST = {"Where": 1, "Loop": 2}  # place of the input whose type counts, where it is not the first
OWN_TYPES = FLOATS | {"int32", "int64", "bool"}  # of tensors; STORED ones only beside Q, DQ and Cast
BESIDE_STORED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Cast", "Input", "Initializer", "Reshape", "Transpose"}
)

# operator -> places of inputs that must be constants, and what they are
CONSTANTS: Mapping[str, Mapping[int, str]] = {
    **{
        name: {1: "its axes"}
        for name in OPERATORS
        if name.startswith("Reduce") or name in ("Squeeze", "Unsqueeze", "CumSum")
    },
    "OneHot": {1: "its depth"},
    "Pad": {},
    "Slice": {3: "its axes", 4: "its steps"},
    "Split": {1: "its sizes"},
    "TopK": {1: "how many it takes"},
    "BatchNormalization": {1: "its scale", 2: "its offset", 3: "its mean", 4: "its variance"},
    "LSTM": {1: "its weights", 2: "its recurrent weights"},
    "GRU": {1: "its weights", 2: "its recurrent weights"},
    "RNN": {1: "its weights", 2: "its recurrent weights"},
    "DequantizeLinear": {1: "its scale", 2: "its zero point"},
    "QuantizeLinear": {1: "its scale", 2: "its zero point"},
}

# operator -> why it is refused, and what helps
REFUSED: Mapping[str, tuple[str, str]] = {
    "NonZero": ("how many elements it yields follows from data", "compute places outside the model, or use a mask"),
    "Unique": ("how many elements it yields follows from data", "compute it outside the model"),
    "Compress": ("how many elements it yields follows from data", "use a mask"),
    "BitShift": ("it works on bits of unsigned integers", "multiply or divide by powers of two"),
    "ConvInteger": ("integers are computed between Q and DQ", "use --precision int8"),
    "MatMulInteger": ("integers are computed between Q and DQ", "use --precision int8"),
    "QLinearConv": ("integers are computed between Q and DQ", "use --precision int8"),
    "QLinearMatMul": ("integers are computed between Q and DQ", "use --precision int8"),
    "DynamicQuantizeLinear": ("its scale follows from data", "use --precision int8, with samples"),
}

WIDER: Mapping[DType, str] = {
    DTYPES[name]: remedy
    for name, remedy in {
        "float64": "compute in float32", "int16": "use int32", "uint16": "use int32", "uint32": "use int64",
        "uint64": "use int64", "int8": "use int32", "uint8": "cast to float32 or int32 first",
        "string": "look up text outside the model", "complex64": "compute with real numbers",
        "complex128": "compute with real numbers",
    }.items()
}  # fmt: skip
