"""Write docs/tflite-rules.md: every operator of TensorFlow that lowers to TFLite, into what, and how.

    python tools/generate_tflite_rules.py            # rewrite the page
    python tools/generate_tflite_rules.py --check    # exit status 1 where it is not up to date

Sentences are the docstrings of the rules. Operators of TFLite are those that the rule's code, the functions of rules
that it calls, and what it looks up for the operator, name.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import pathlib
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from graphopt.backends.legalization import Entry
from graphopt.backends.tflite.table import FAMILIES, FIRST_FAMILIES, all_rules, first_rules
from graphopt.ir.ops.tflite import BUILTIN

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "tflite-rules.md"
RULES = "graphopt.backends.tflite.rules"
HEAD = """\
# Rules of lowering to TFLite

<!-- Written by tools/generate_tflite_rules.py from the docstrings of the rules. -->

What becomes of TensorFlow's operators once a model is frozen and everything known in it is folded. Where an operator
has several rules, the first that applies is taken. A rule may also build operators that other rules lower in turn,
and refuses what LiteRT's kernels do not take: `graphopt check` says so, with the reason. What is in no table here is
[what does not fit](tflite-lowering.md#what-does-not-fit).
"""


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    content = page()
    if not parser.parse_args().check:
        PAGE.write_text(content, encoding="utf-8")
        return 0
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != content:
        print(f"{PAGE.name} is not up to date: python tools/generate_tflite_rules.py", file=sys.stderr)
        return 1
    return 0


def page() -> str:
    """The whole page: one table a family."""
    families: dict[str, list[Entry]] = {}
    for entry in (*first_rules().entries, *all_rules().entries):
        families.setdefault(entry.function.__module__, []).append(entry)
    parts = [HEAD]
    for family in (*FIRST_FAMILIES, *FAMILIES):
        name = f"{RULES}.{family}"
        if name in families:
            parts.append(_section(family, import_module(name), families[name]))
    return "\n".join(parts)


def _section(family: str, module: Any, entries: list[Entry]) -> str:
    words = (inspect.getdoc(module) or "").partition("\n\n")[0]
    lines = [f"## {family.replace('_', ' ').capitalize()}", "", *textwrap.wrap(words, 120), ""]
    lines += ["| TensorFlow | TFLite | how |", "|---|---|---|"]
    for entry in entries:
        how = " ".join((inspect.getdoc(entry.function) or "").split()).replace("|", "\\|")
        ops = ", ".join(f"`{op.partition('.')[2]}`" for op in entry.ops)
        targets = ", ".join(f"`{target}`" for target in _targets(entry)) or "other operators"
        lines.append(f"| {ops} | {targets} | {how} |")
    return "\n".join([*lines, ""])


def _targets(entry: Entry) -> tuple[str, ...]:
    """Operators of TFLite that a rule names: itself, or where it names none, what it leaves to helpers."""
    function = inspect.unwrap(entry.function)
    for houses in (tuple(f"{RULES}.{family}" for family in (*FIRST_FAMILIES, *FAMILIES)), (RULES,)):
        found = dict.fromkeys(target for op in entry.ops for target in _named(function, op, houses, {}))
        if found:
            return tuple(found)
    return ()


def _named(function: Any, op: str, houses: tuple[str, ...], seen: dict[Any, None]) -> Iterator[str]:
    """Operators of TFLite that a function names, in the order of its text."""
    if function in seen:
        return
    seen[function] = None
    for node in _tree(function):
        if isinstance(node, ast.Constant):
            yield from _operators(node.value, op)
        elif isinstance(node, ast.Name):
            held = function.__globals__.get(node.id)
            if inspect.isfunction(held) and held.__module__.startswith(houses):
                yield from _named(held, op, houses, seen)
            elif isinstance(held, (str, Mapping)):
                yield from _operators(held, op)


def _operators(value: Any, op: str) -> Iterator[str]:
    """The operators that a value names: of a table by operator, those of `op` alone."""
    if isinstance(value, str):
        if value in BUILTIN:
            yield value
    elif isinstance(value, Mapping):
        keys = [key for key in (op, op.partition(".")[2]) if key in value]
        is_by_operator = any(isinstance(key, str) and key.startswith("tf.") for key in value)
        for item in [value[key] for key in keys] if keys or is_by_operator else value.values():
            yield from _operators(item, op)
    elif isinstance(value, tuple):
        for item in value:
            yield from _operators(item, op)


@cache
def _tree(function: Any) -> list[ast.AST]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return [node for statement in tree.body for node in _in_order(statement)]


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


if __name__ == "__main__":
    sys.exit(main())
