"""Write docs/tflite-rules.md and its kind: every operator of TensorFlow that lowers to a target, into what, and how.

    python tools/generate_rule_docs.py [TARGET…]          # rewrite the pages, all if none is named
    python tools/generate_rule_docs.py --check [TARGET…]  # exit status 1 where one is not up to date

Sentences are the docstrings of the rules. Operators of the target are those that the rule's code, the functions of
rules that it calls, and what it looks up for the operator, name. A target is one entry in `PAGES`.
"""

from __future__ import annotations

import argparse
import inspect
import pathlib
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from rule_targets import Namer

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
OTHERS = "other operators"
SHARED = "decomposed"  # the family of rules that targets share
NOTE = "<!-- Written by tools/generate_rule_docs.py from the docstrings of the rules. -->"


class Rule(NamedTuple):
    """A rule of any target: the operators it is for, and its function, whose docstring says how."""

    ops: tuple[str, ...]
    function: Callable[..., Any]


@dataclass(frozen=True)
class Page:
    """What a target's page says. `words` come first; `rules` are in the order of the families' modules."""

    title: str
    heading: str
    words: str
    package: str
    families: Sequence[str]
    rules: Iterable[Rule]
    namer: Namer
    others: str = OTHERS

    def text(self) -> str:
        """The whole page: one table a family."""
        by_family: dict[str, list[Rule]] = {}
        names = {f"{self.package}.{family}" for family in self.families}
        for rule in self.rules:
            module = rule.function.__module__
            by_family.setdefault(module if module in names else f"{self.package}.{SHARED}", []).append(rule)
        parts = [
            f"# {self.title}\n\n<!-- Written by tools/generate_rule_docs.py from the docstrings of the rules. -->\n"
        ]
        parts.append(self.words)
        for family in self.families:
            name = f"{self.package}.{family}"
            if name in by_family:
                parts.append(self._section(family, import_module(name), by_family[name]))
        return "\n".join(parts)

    def _section(self, family: str, module: Any, rules: list[Rule]) -> str:
        words = (inspect.getdoc(module) or "").partition("\n\n")[0]
        lines = [f"## {family.replace('_', ' ').capitalize()}", "", *textwrap.wrap(words, 120), ""]
        lines += [f"| TensorFlow | {self.heading} | how |", "|---|---|---|"]
        for rule in rules:
            how = " ".join((inspect.getdoc(rule.function) or "").split()).replace("|", "\\|")
            ops = ", ".join(f"`{op.partition('.')[2]}`" for op in rule.ops)
            named = self.namer.targets(rule.function, rule.ops)
            targets = ", ".join(f"`{target}`" for target in named) or self.others
            lines.append(f"| {ops} | {targets} | {how} |")
        return "\n".join([*lines, ""])


def houses(package: str, families: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The families' modules; then, where they name nothing, what families share."""
    return tuple(f"{package}.{family}" for family in families), (package,)


# Pages ---------------------------------------------------------------------------------------------------------


def tflite() -> Page:
    """Lowering to TFLite."""
    from graphopt.backends.tflite.table import FAMILIES, FIRST_FAMILIES, all_rules, first_rules
    from graphopt.ir.ops.tflite import BUILTIN

    package, families = "graphopt.backends.tflite.rules", (*FIRST_FAMILIES, *FAMILIES)
    return Page(
        "Rules of lowering to TFLite", "TFLite", TFLITE_WORDS, package, families,
        [Rule(entry.ops, entry.function) for entry in (*first_rules().entries, *all_rules().entries)],
        Namer(BUILTIN, houses(package, families)),
    )  # fmt: skip


TFLITE_WORDS = """\
What becomes of TensorFlow's operators once a model is frozen and everything known in it is folded. Where an operator
has several rules, the first that applies is taken. A rule may also build operators that other rules lower in turn,
and refuses what LiteRT's kernels do not take: `graphopt check` says so, with the reason. What is in no table here is
[what does not fit](tflite-lowering.md#what-does-not-fit).
"""


def onnx() -> Page:
    """Lowering to ONNX."""
    from graphopt.backends.onnx.table import FAMILIES, FIRST_FAMILIES, all_rules, first_rules
    from graphopt.ir.ops.onnx import CALLS, OPERATORS

    package, families = "graphopt.backends.onnx.rules", (*FIRST_FAMILIES, *FAMILIES)
    return Page(
        "Rules of lowering to ONNX", "ONNX", ONNX_WORDS, package, families,
        [Rule(entry.ops, entry.function) for entry in (*first_rules().entries, *all_rules().entries)],
        Namer({*OPERATORS, *CALLS, "LabelEncoder"}, houses(package, families)),
    )  # fmt: skip


ONNX_WORDS = """\
What becomes of TensorFlow's operators once a model is frozen and everything known in it is folded. Where an operator
has several rules, the first that applies is taken; a rule may build operators that other rules lower in turn. What is
in no table here, `graphopt check --target onnx` names, with the reason and what helps.
"""


def xla() -> Page:
    """Lowering to StableHLO."""
    from graphopt.backends.xla.bindings import bindings
    from graphopt.backends.xla.builder import Builder
    from graphopt.backends.xla.table import FAMILIES, all_rules

    package = "graphopt.backends.xla.rules"
    operators = {name for dialect in (bindings().stablehlo, bindings().chlo) for name in dir(dialect)}
    rules: dict[Callable[..., Any], list[str]] = {}
    for op, function in all_rules().functions.items():
        rules.setdefault(function, []).append(op)
    return Page(
        "Rules of lowering to XLA", "StableHLO", XLA_WORDS, package, FAMILIES,
        [Rule(tuple(ops), function) for function, ops in rules.items()],
        Namer(operators - PLUMBING, houses(package, FAMILIES), ("hlo", "chlo"), Builder, _plain), "nothing",
    )  # fmt: skip


# What nearly every rule builds on the way, and members of the bindings that are no operations.
PLUMBING = frozenset(
    {
        "constant", "broadcast_in_dim", "dynamic_broadcast_in_dim", "dynamic_reshape", "dynamic_iota", "return_",
        "get_dimension_size", "real_dynamic_slice", "ir", "mul", "sub", "div", "max", "min", "type", "kind",
    }
)  # fmt: skip
XLA_WORDS = """\
What becomes of TensorFlow's operators once a model is frozen, its functions are inlined and everything known in it is
folded. Constants, broadcasts and what sizes need that are known only when the model runs are left out of the tables. A
rule refuses what StableHLO cannot express: `graphopt check --target xla` says so, with the reason and what helps.
[XLA](xla.md) says how to lower and to run.
"""


def _plain(name: str) -> str:
    """The operation behind a member of the bindings: `ReduceWindowOp` is `reduce_window`, `and_` is `and`."""
    stem = name.removesuffix("Op").rstrip("_")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in stem).lstrip("_")


PAGES = {"tflite": tflite, "onnx": onnx, "xla": xla}


def main() -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(PAGES))
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for target in arguments.targets:
        if target not in PAGES:
            parser.error(f"there is no target '{target}'; there are {', '.join(PAGES)}")
    status = 0
    for target in arguments.targets or PAGES:
        path, content = DOCS / f"{target}-rules.md", PAGES[target]().text()
        if not arguments.check:
            path.write_text(content, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != content:
            print(f"{path.name} is not up to date: python tools/generate_rule_docs.py {target}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
