"""Write ir/ops/onnxruntime_kernels.txt: element types that ONNX Runtime's kernels on the CPU take, by operator.

    python tools/generate_onnxruntime_kernels.py     # needs onnxruntime; after an upgrade of it

A line an operator of ONNX's own domain: its name, the type letters of its inputs and outputs (`...` behind one that
repeats), and for each kernel the types of each letter; a letter that a kernel does not restrict is not listed.
"""

from __future__ import annotations

import collections
import pathlib
import re
from typing import Any

OPSET = 21
TARGET = pathlib.Path(__file__).resolve().parents[1] / "ir" / "ops" / "onnxruntime_kernels.txt"
NAMES = {"float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn", "float8e5m2": "float8_e5m2"}
SKIPPED = frozenset({"If", "Loop", "Scan", "Cast", "CastLike", "QuantizeLinear", "DequantizeLinear"})


def main() -> None:
    """Ask the package, and write the file."""
    import onnxruntime.capi.onnxruntime_pybind11_state as state

    schemas: dict[str, Any] = {}
    for schema in state.get_all_operator_schema():
        if schema.domain == "" and schema.since_version <= OPSET:
            held = schemas.get(schema.name)
            if held is None or held.since_version < schema.since_version:
                schemas[schema.name] = schema
    kernels: dict[str, list[Any]] = collections.defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        first, last = kernel.version_range
        if kernel.provider == "CPUExecutionProvider" and kernel.domain == "" and first <= OPSET <= last:
            kernels[kernel.op_name].append(kernel)
    lines = [
        line
        for name, found in sorted(kernels.items())
        if name in schemas and name not in SKIPPED and (line := _line(schemas[name], found))
    ]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(lines)} operators")


def _line(schema: Any, kernels: list[Any]) -> str:
    letters = [[_letter(item) for item in items] for items in (schema.inputs, schema.outputs)]
    known = {letter.removesuffix("...") for side in letters for letter in side}
    forms = [{k: _types(v) for k, v in kernel.type_constraints.items() if k in known} for kernel in kernels]
    merged = _merged([form for form in forms if form])
    if not merged or len(forms) != len([form for form in forms if form]):
        return ""
    shown = " ".join(
        ",".join(f"{letter}={'|'.join(sorted(types))}" for letter, types in form.items()) for form in merged
    )
    return f"{schema.name} {','.join(letters[0])}>{','.join(letters[1])} {shown}"


def _letter(item: Any) -> str:
    option = str(item.option)
    return re.sub(r"\W", "_", item.typeStr) + ("..." if "Variadic" in option else "")


def _types(given: list[str]) -> frozenset[str]:
    plain = [match[1] for text in given if (match := re.fullmatch(r"tensor\((\w+)\)", text))]
    return frozenset(NAMES.get(name, name) for name in plain)


def _merged(forms: list[dict[str, frozenset[str]]]) -> list[dict[str, frozenset[str]]]:
    """Forms that differ in one letter alone are one."""
    found: list[dict[str, frozenset[str]]] = []
    for form in forms:
        for place, other in enumerate(found):
            differing = [key for key in form if form[key] != other.get(key)]
            if form.keys() == other.keys() and len(differing) <= 1:
                for key in differing:
                    found[place] = {**other, key: other[key] | form[key]}
                break
        else:
            found.append(form)
    return found


if __name__ == "__main__":
    main()
