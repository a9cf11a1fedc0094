"""The parser every verb uses: errors in one paragraph, options suggested, and the arguments that verbs share."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


class VerbParser(argparse.ArgumentParser):
    """An `ArgumentParser` that never abbreviates, and answers a misspelt option with the one that was meant."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Like argparse's, with suggestions for what is not recognised."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            close = difflib.get_close_matches(word, self._option_string_actions, 1) if word.startswith("-") else []
            hint = f"; did you mean '{close[0]}'?" if close else f"; see `{self.prog} --help`"
            kind = "option" if word.startswith("-") else "argument"
            self.error(f"unknown {kind} {word[:200]!a}{hint}")
        return options

    def error(self, message: str) -> NoReturn:
        """One line on stderr and exit status 2."""
        shown = message if message.isprintable() else ascii(message)
        print(f"{self.prog}: {shown}", file=sys.stderr)
        raise SystemExit(2)


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every verb understands."""
    group = parser.add_argument_group("output")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but results and errors")
    group.add_argument("-v", "--verbose", action="store_true", help="say more: notes, refusals and their reasons")


def add_model(parser: argparse.ArgumentParser) -> None:
    """A model to read, and the names of its inputs and outputs."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a SavedModel's folder, a graph (.pb, .pbtxt, .meta) or .tflite; - for standard input",
    )
    add_names(parser)


def add_names(parser: argparse.ArgumentParser) -> None:
    """`--inputs` and `--outputs`."""
    parser.add_argument("--inputs", metavar="A,B", type=names, help="inputs, with or without :0; found if not given")
    parser.add_argument("--outputs", metavar="C,D", type=names, help="outputs, with or without :0; found if not given")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON with a versioned schema name")


def add_output(parser: argparse.ArgumentParser, what: str = "model") -> None:
    """`-o` and `--force`."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help=f"{what} to write; .pbtxt is text, - is stdout",
    )
    add_force(parser)


def add_force(parser: argparse.ArgumentParser) -> None:
    """`--force`."""
    parser.add_argument("--force", action="store_true", help="replace an output that exists")


def names(text: str) -> list[str]:
    """`a,b` as a list. Raises `ArgumentTypeError` for an empty name."""
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError("a name is empty; separate names by single commas")
    return found


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is not a whole number from 1 on")
    return int(text)


def tolerance(text: str) -> float:
    """A finite number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is not a finite number from 0 on")
    return number
