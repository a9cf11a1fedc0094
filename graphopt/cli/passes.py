"""List the passes and pipelines there are, or print one of them in full."""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_json
from graphopt.cli.console import Console
from graphopt.report.tables import Table

if TYPE_CHECKING:
    from graphopt.passes.base import Pass

SCHEMA = "graphopt/passes/v1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `passes`."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a pass or a pipeline")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """List or describe."""
    from graphopt.passes.catalog import find_pass, pass_names
    from graphopt.passes.presets import PRESETS

    if options.name in PRESETS:
        return _print_preset(options.name, PRESETS[options.name], options.json, console)
    classes = [find_pass(name) for name in ([options.name] if options.name else pass_names())]
    if options.json:
        presets = {} if options.name else dict(PRESETS)
        console.json({"schema": SCHEMA, "passes": [describe(cls) for cls in classes], "pipelines": presets})
    elif options.name:
        _print_pass(classes[0], console)
    else:
        _print_list(classes, dict(PRESETS), console)
    return 0


def describe(cls: type[Pass]) -> dict[str, Any]:
    """A pass as plain data."""
    from graphopt.passes.spec import default_of

    return {
        "name": cls.name,
        "summary": summary(cls),
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "exactness": cls.exactness.name.lower(),
        "requires": list(cls.requires),
        "ensures": list(cls.ensures),
        "after": list(cls.after),
        "options": [
            {"name": option.name.replace("_", "-"), "type": _type(option.type), "default": default_of(option)}
            for option in cls.options()
        ],
    }


def summary(cls: type[Pass]) -> str:
    """The first sentence of the docstring."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _print_list(classes: list[type[Pass]], presets: dict[str, str], console: Console) -> None:
    table = Table(["pass", "exactness", "what it does"])
    for cls in classes:
        table.add(cls.name, cls.exactness.name.lower(), summary(cls))
    console.table(table)
    console.result("")
    pipelines = Table(["pipeline", "passes"])
    for name, text in presets.items():
        pipelines.add(name, text)
    console.table(pipelines)


def _print_pass(cls: type[Pass], console: Console) -> None:
    described = describe(cls)
    console.result(f"{cls.name} ({described['exactness']})\n\n{described['description']}")
    if described["options"]:
        table = Table(["option", "type", "default"])
        for option in described["options"]:
            table.add(option["name"], option["type"], _default(option["default"]))
        console.result("")
        console.table(table)


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return "[]" if value == () else str(value)


def _print_preset(name: str, text: str, as_json: bool, console: Console) -> int:
    if as_json:
        console.json({"schema": SCHEMA, "passes": [], "pipelines": {name: text}})
    else:
        console.result(f"{name} is the pipeline\n\n{text}\n\nCopy it, edit it, and pass it to --passes.")
    return 0
