"""Writes ir/formats/tflite/schema.txt, the schema of .tflite files, from the installed `ai_edge_litert`.

    python tools/generate_tflite_schema.py            # write it
    python tools/generate_tflite_schema.py --check    # exit status 1 where it is out of date

A line is a table (`Tensor<TAB>shape:[int32] type:int8(TensorType)=0 ...`, fields in the order of their slots, a slot
without a field as `-`) or an enumeration (`@Padding<TAB>SAME=0 VALID=1`). A field is `name:kind`, a kind a scalar, an
enumeration in parentheses after the scalar that stores it, `string`, a table, `|` and a union, or one of these in
brackets for a vector; `=` gives a scalar's default.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import pathlib
import re
import sys

TARGET = pathlib.Path(__file__).parents[1] / "ir" / "formats" / "tflite" / "schema.txt"
UNIONS = ("BuiltinOptions", "BuiltinOptions2", "QuantizationDetails", "SparseIndexVector")
# The generated Python forgets which enumeration a field is of.
ENUMERATIONS = {
    "padding": "Padding",
    "fused_activation_function": "ActivationFunctionType",
    "weights_format": "FullyConnectedOptionsWeightsFormat",
    "kernel_type": "LSTMKernelType",
    "combiner": "CombinerType",
    "comparison_direction": "StablehloComparisonDirection",
    "compare_type": "StablehloComparisonType",
    "algorithm": "RngAlgorithm",
    "reduce_function": "ReduceWindowFunction",
    "format": "DimensionType",
    "custom_options_format": "CustomOptionsFormat",
    "MirrorPadOptions.mode": "MirrorPadMode",
    "LSHProjectionOptions.type": "LSHProjectionType",
    **dict.fromkeys(
        (
            "in_data_type", "out_data_type", "out_type", "idx_out_type", "output_type", "quantized_bias_type",
            "key_dtype", "value_dtype", "Tensor.type", "VariantSubType.type", "BitcastOptions.type",
        ),
        "TensorType",
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    text = schema_text()
    if parser.parse_args().check:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


def schema_text() -> str:
    """The whole file."""
    from ai_edge_litert import schema_py_generated

    source = inspect.getsource(schema_py_generated)
    lines = source.splitlines()
    nodes = {item.name: item for item in ast.parse(source).body if isinstance(item, (ast.ClassDef, ast.FunctionDef))}
    texts = {name: "\n".join(lines[item.lineno - 1 : item.end_lineno]) for name, item in nodes.items()}
    classes = {name: item for name, item in nodes.items() if isinstance(item, ast.ClassDef)}
    functions = {name: text for name, text in texts.items() if name not in classes}
    written = []
    for node in classes.values():
        if not any(isinstance(item, ast.FunctionDef) for item in node.body):
            written.append(_enumeration(node))
    for name in classes:
        if f"{name}T" in classes:
            written.append(_table(name, texts[name], texts[f"{name}T"], functions))
    return "".join(f"{line}\n" for line in written)


def _enumeration(node: ast.ClassDef) -> str:
    values = {}
    for item in node.body:
        if isinstance(item, ast.Assign):
            values[item.targets[0].id] = ast.literal_eval(item.value)  # type: ignore[attr-defined]
    return f"@{node.name}\t" + " ".join(f"{name}={value}" for name, value in values.items())


def _table(name: str, accessors: str, declared: str, functions: dict[str, str]) -> str:
    kinds = dict(re.findall(r"self\.(\w+) = \w+\s+# type: (.*)", declared))
    fields: dict[int, str] = {}
    for function, body in functions.items():
        if not function.startswith(f"{name}Add"):
            continue
        found = re.search(r"builder\.Prepend(\w+?)Slot\((\d+), [^\n]*, (\S+)\)$", body, re.MULTILINE)
        camel = function[len(name) + 3 :]
        member = next((kind for kind in kinds if kind.lower() == camel.lower()), None)
        if found is None or member is None:
            continue  # a table of a longer name
        stored, slot, default = found[1], int(found[2]), found[3]
        snake = _snake(member)
        if stored == "UOffsetTRelative":
            fields[slot] = f"{snake}:{_offset_kind(snake, kinds[member], camel, accessors)}"
        else:
            enumeration = ENUMERATIONS.get(f"{name}.{snake}") or ENUMERATIONS.get(snake)
            suffix = f"({enumeration})" if enumeration else ""
            fields[slot] = f"{snake}:{stored.lower()}{suffix}={_default(default)}"
    return f"{name}\t" + " ".join(fields.get(slot, "-") for slot in range(max(fields, default=-1) + 1))


def _default(text: str) -> str:
    value = ast.literal_eval(text)
    return str(int(value)) if float(value).is_integer() else repr(value)


def _snake(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", camel).lower()


def _offset_kind(snake: str, declared: str, camel: str, accessors: str) -> str:
    if declared.startswith("Union["):
        return "|" + {
            "builtin_options": "BuiltinOptions", "builtin_options2": "BuiltinOptions2",
            "details": "QuantizationDetails",
            "array_segments": "SparseIndexVector", "array_indices": "SparseIndexVector",
        }[snake]  # fmt: skip
    inner = re.fullmatch(r"Optional\[(?:List\[)?'?(\w+?)(T?)'?\]?\]", declared)
    assert inner is not None, declared
    is_vector = "List[" in declared
    if inner[1] == "str":
        kind = "string"
    elif inner[2]:
        kind = inner[1]
    else:
        flags = re.search(rf"def {camel}\(self, j\):(?:(?!def ).)*?number_types\.(\w+)Flags, a", accessors, re.DOTALL)
        assert flags is not None, camel
        kind = flags[1].lower()
    return f"[{kind}]" if is_vector else kind


if __name__ == "__main__":
    sys.exit(main())
