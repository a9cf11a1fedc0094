"""Write ir/ops/tf_interfaces.txt: the interface of every TensorFlow operator, read from TensorFlow's registry.

    python tools/generate_op_interfaces.py            # needs the extra `tensorflow`

One line an operator, tab-separated: name, flags, inputs, outputs, attributes.
Flags: `s` stateful, `c` commutative. An argument is `name:TYPE`, preceded by `&` for a reference; TYPE is an
attribute (`T`), a fixed type (`@float32`), a repeated one (`N*T`, `N*@string`) or a list of types (`**Tin`).
An attribute is `name:kind` or `name:kind=default`, the default as a Python literal, types as `@float32`,
shapes as `[1, -1]` or `?`.
"""

from __future__ import annotations

import os
import pathlib

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TARGET = pathlib.Path(__file__).resolve().parent.parent / "ir" / "ops" / "tf_interfaces.txt"


def main() -> None:
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    ops = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))

    def type_name(code: int) -> str:
        return "unknown" if code == 0 else tf.dtypes.as_dtype(code).name

    def argument(arg) -> str:
        if arg.type_list_attr:
            kind = f"**{arg.type_list_attr}"
        else:
            kind = arg.type_attr or f"@{type_name(arg.type)}"
            if arg.number_attr:
                kind = f"{arg.number_attr}*{kind}"
        return f"{arg.name}:{'&' if arg.is_ref else ''}{kind}"

    def shape(proto) -> str:
        return "?" if proto.unknown_rank else "[" + ",".join(str(d.size) for d in proto.dim) + "]"

    def scalar(value) -> str:
        kind = value.WhichOneof("value")
        if kind == "type":
            return f"@{type_name(value.type)}"
        if kind == "shape":
            return shape(value.shape)
        if kind == "s":
            return repr(value.s)
        if kind == "func":
            return f"!{value.func.name}"
        if kind == "tensor":
            return f"%{type_name(value.tensor.dtype)}:{tf.make_ndarray(value.tensor).tolist()!r}"
        return repr({"i": value.i, "f": value.f, "b": value.b}[kind])

    def default(value) -> str:
        if value.WhichOneof("value") != "list":
            return scalar(value)
        items = value.list
        texts = [repr(x) for field in (items.s, items.i, items.f, items.b) for x in field]
        texts += [f"@{type_name(x)}" for x in items.type] + [shape(x) for x in items.shape]
        return "(" + ";".join(texts) + ")"

    def attribute(attr) -> str:
        text = f"{attr.name}:{attr.type}"
        return f"{text}={default(attr.default_value)}" if attr.HasField("default_value") else text

    lines = []
    for op in sorted(ops.op, key=lambda op: op.name):
        flags = ("s" if op.is_stateful else "") + ("c" if op.is_commutative else "")
        inputs, outputs = (" ".join(argument(a) for a in args) for args in (op.input_arg, op.output_arg))
        attrs = " ".join(attribute(a).replace(" ", "\\x20") for a in op.attr)
        lines.append("\t".join((op.name, flags, inputs, outputs, attrs)))
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(lines)} operators of TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main()
