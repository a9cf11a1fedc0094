"""Where the command line says things: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.report.tables import Table


class Console:
    """Prints for one command. `quiet` leaves only results and errors, `verbose` adds details."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.result_to_stderr = False  # set when the output itself goes to stdout

    @property
    def _results(self) -> Any:
        return sys.stderr if self.result_to_stderr else sys.stdout

    def result(self, text: str) -> None:
        """A line that was asked for."""
        print(text, file=self._results)

    def json(self, data: Mapping[str, Any]) -> None:
        """A JSON document that was asked for, in ASCII, which no terminal can be fooled by."""
        print(json.dumps(data, indent=2, ensure_ascii=True, allow_nan=False, default=str), file=self._results)

    def table(self, table: Table) -> None:
        """A table that was asked for."""
        from graphopt.report.tables import write

        write(table, self._results)

    def note(self, text: str) -> None:
        """Something to know; silenced by `-q`."""
        if not self.quiet:
            print(f"graphopt: {text}", file=sys.stderr)

    def detail(self, text: str) -> None:
        """Something to know for who asked with `-v`."""
        if self.verbose and not self.quiet:
            print(f"graphopt: {text}", file=sys.stderr)
