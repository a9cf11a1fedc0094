"""Write docs/passes/: one page a pass, from its docstring, options and rules, and the index of them all.

    python tools/generate_pass_docs.py            # rewrite the pages
    python tools/generate_pass_docs.py --check    # exit status 1 and the names of pages that are not up to date

A page holds what the code says and nothing else, so a pass is documented where it is written. The rules of a pass are
those it lists in `rules`, and those its module imports or defines.
"""

from __future__ import annotations

import argparse
import inspect
import pathlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from graphopt.passes import PRESETS, Pass, Rule, find_pass, parse_pipeline, pass_names
from graphopt.passes.spec import default_of, format_pass

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "passes"
BUILT_IN = "graphopt.passes."
WINGS = {
    "cleanup": "Removing what nothing needs",
    "fold": "Computing beforehand",
    "freeze": "Variables",
    "functions": "Functions",
    "control": "Control flow",
    "shapes": "Shapes",
    "rename": "Names, devices and attributes",
    "quantize": "Before quantizing",
}
EXACTNESS = {
    "exact": "Exact: what comes out is the same bit for bit, NaN and Inf included.",
    "reassociating": "Reassociating: the same function of real numbers, which floats may round differently.",
    "approximate": "Approximate: results differ by a bound that the description states.",
}
EXAMPLES = (  # a use with options, for passes that have some
    'correct-biases{statistics="seen.json"}',
    'equalize-channels{statistics="seen.json",strength=1.0}',
    "fold-constants{max-bytes=65536}",
    'freeze-variables{names=["dense/*"]}',
    "inline-functions{levels=1}",
    "merge-duplicates{constants=false}",
    "remove-attribute{attribute=_class}",
    "remove-nodes{operators=[Identity,CheckNumerics],dropout=true}",
    "remove-unused-functions{keep=[serving]}",
    "rename-attribute{old=padding,new=paddings,operator=Conv2D}",
    "rename-node{old=final_result,new=scores}",
    "rename-operator{old=Mul,new=Multiply}",
    'set-device{device="/cpu:0"}',
    'set-shapes{shapes=["pictures:1,224,224,3"]}',
    "sort{canonical=true}",
    'strip-unused{type=float32,shape="1,224,224,3"}',
)
TYPES = {
    "bool": "true or false",
    "float": "number",
    "int": "whole number",
    "int | None": "whole number or none",
    "str": "text",
    "str | None": "text or none",
    "tuple[str, ...]": "list of texts",
}


def built_in_passes() -> list[type[Pass]]:
    """Every pass of this package, by name; those that plugins or a running program registered are not ours."""
    classes = (find_pass(name) for name in pass_names())
    return [cls for cls in classes if cls.__module__.startswith(BUILT_IN)]


def wing(cls: type[Pass]) -> str:
    """The folder of `passes/` that a pass is in."""
    return cls.__module__.removeprefix(BUILT_IN).partition(".")[0]


def rules_of(cls: type[Pass]) -> list[type[Rule]]:
    """Rules that the pass applies, in order, each once."""
    found = dict.fromkeys(getattr(cls, "rules", ()))
    module = sys.modules[cls.__module__]
    found.update(dict.fromkeys(rule for rule in _rules_in(module) if not rule.__name__.startswith("_")))
    return list(found)


def _rules_in(module: ModuleType) -> Iterator[type[Rule]]:
    for item in vars(module).values():
        for candidate in item if isinstance(item, tuple) else (item,):
            if isinstance(candidate, type) and issubclass(candidate, Rule) and candidate is not Rule:
                yield candidate


def summary(cls: type[Any]) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())


def description(cls: type[Pass]) -> Iterator[str]:
    """The docstring as Markdown: its indented listings become fenced ones, *Given* and *Result* their headings."""
    in_listing = False
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        indented = line.startswith("    ")
        if indented and not in_listing:
            yield "```text"
        elif in_listing and line and not indented:
            yield from ("```", "")
        if line or not in_listing:
            yield (
                line.removeprefix("    ")
                if indented
                else line.replace("*Given*", "**Given**").replace("*Result*", "**Result**")
            )
        in_listing = indented or (in_listing and not line)
    if in_listing:
        yield "```"


def option_table(cls: type[Pass]) -> Iterator[str]:
    """A row for each option."""
    yield "| option | in Python | value | default |"
    yield "|---|---|---|---|"
    for option in cls.options():
        name, kind = option.name.replace("_", "-"), str(option.type)
        yield f"| `{name}` | `{option.name}` | {TYPES.get(kind, f'`{kind}`')} | {_default(default_of(option))} |"


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) if value else "empty"
    return f"`{value}`" if value != "" else "empty"


def usage(cls: type[Pass]) -> Iterator[str]:
    """The pass in a pipeline and in Python."""
    text = next((example for example in EXAMPLES if example.partition("{")[0] == cls.name), cls.name)
    (item,) = parse_pipeline(text)
    chosen = {option.name: getattr(item, option.name) for option in cls.options()}
    given = {option.name: chosen[option.name] for option in cls.options() if chosen[option.name] != default_of(option)}
    arguments = ", ".join(f"{name}={_quoted(value)}" for name, value in given.items())
    variable = cls.name.replace("-", "_")
    yield from ("```bash", f"graphopt optimize MODEL -o OUT --passes '{format_pass(item)}'", "```", "")
    yield from ("```python", f"from {cls.__module__} import {cls.__name__}", "")
    yield from (f"{variable} = {cls.__name__}({arguments})", f"assert str({variable}) == {_quoted(format_pass(item))}")
    yield "```"


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'" if '"' in value else f'"{value}"'
    return f"({', '.join(map(_quoted, value))}{',' * (len(value) == 1)})" if isinstance(value, tuple) else repr(value)


def rule_table(rules: list[type[Rule]]) -> Iterator[str]:
    """A row for each rule."""
    yield "| rule | exactness | what it does |"
    yield "|---|---|---|"
    for rule in rules:
        yield f"| `{rule.name}` | {rule.exactness.name.lower()} | {summary(rule)} |"


def page(cls: type[Pass]) -> str:
    """The page of one pass."""
    lines = [f"# {cls.name}", "", *description(cls), "", "## Exactness", "", EXACTNESS[cls.exactness.name.lower()]]
    if cls.after:
        others = " and ".join(f"[{name}]({name}.md)" for name in cls.after)
        lines += ["", f"It does most after {others}."]
    if any(True for _ in cls.options()):
        lines += ["", "## Options", "", *option_table(cls)]
    rules = rules_of(cls)
    if rules:
        order = "In the order in which they are tried:" if hasattr(cls, "rules") else "In no particular order:"
        lines += ["", "## Rules", "", order, "", *rule_table(rules)]
    lines += ["", "## Use", "", *usage(cls), ""]
    users = [f"`{name}`" for name, text in PRESETS.items() if any(type(item) is cls for item in parse_pipeline(text))]
    lines += [f"In the pipelines: {', '.join(users)}." if users else "In no named pipeline.", ""]
    lines += ["[All passes](index.md)", ""]
    return "\n".join(lines)


def index(classes: list[type[Pass]]) -> str:
    """The list of all passes and named pipelines."""
    lines = ["# Passes", "", "`graphopt passes` prints this list, `graphopt passes NAME` one pass in full."]
    missing = dict.fromkeys(wing(cls) for cls in classes if wing(cls) not in WINGS)
    for name, title in {**WINGS, **{name: name for name in missing}}.items():
        lines += ["", f"## {title}", "", "| pass | exactness | what it does |", "|---|---|---|"]
        for cls in classes:
            if wing(cls) == name:
                link = f"[{cls.name}]({cls.name}.md)"
                lines.append(f"| {link} | {cls.exactness.name.lower()} | {summary(cls)} |")
    lines += ["", "## Named pipelines", "", "Each is text to copy, edit and pass to `--passes`."]
    for name, text in PRESETS.items():
        lines += ["", f"### {name}", "", "```text", *_wrapped(text), "```"]
    lines += ["", "```{toctree}", ":hidden:", "", *(cls.name for cls in classes), "```", ""]
    return "\n".join(lines)


def _wrapped(pipeline: str) -> Iterator[str]:
    """A pipeline on lines of a readable length, broken after commas."""
    line = ""
    for item in parse_pipeline(pipeline):
        text = f"{format_pass(item)},"
        if line and len(line) + len(text) > 100:
            yield line
            line = ""
        line += text
    yield line.rstrip(",")


def pages() -> dict[str, str]:
    """File name -> what it should hold."""
    classes = built_in_passes()
    return {"index.md": index(classes), **{f"{cls.name}.md": page(cls) for cls in classes}}


def outdated(wanted: Mapping[str, str]) -> list[str]:
    """Names of pages that differ from what they should hold, are missing, or have no pass."""
    present = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    return sorted(name for name in {**wanted, **present} if wanted.get(name) != present.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is not up to date")
    options = parser.parse_args()
    wanted = pages()
    stale = outdated(wanted)
    if options.check:
        for name in stale:
            print(f"docs/passes/{name} is not up to date: run python tools/generate_pass_docs.py", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
        print(f"docs/passes/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
