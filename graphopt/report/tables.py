"""Tables: aligned text wherever it is read by a program, drawn with rich on a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from graphopt.ir.errors import printable

WHOLE = 32  # characters of a first column up to which it is not broken on a narrow terminal


@dataclass
class Table:
    """Rows under headings. A heading that ends in `>` is of a column of numbers, set to the right."""

    headings: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    title: str = ""

    def add(self, *cells: Any) -> None:
        """One more row."""
        self.rows.append(cells)

    @property
    def names(self) -> list[str]:
        """The headings as printed."""
        return [heading.removesuffix(">") for heading in self.headings]

    @property
    def right(self) -> list[bool]:
        """Which columns are set to the right."""
        return [heading.endswith(">") for heading in self.headings]

    def texts(self) -> list[list[str]]:
        """The cells as printed: numbers with thousands apart, everything else with control characters escaped."""
        return [[_cell(cell) for cell in row] for row in self.rows]


def plain(table: Table) -> str:
    """The table as aligned text, without a line break at the end."""
    texts = table.texts()
    widths = [max(map(len, column)) for column in zip(table.names, *texts, strict=True)]
    lines = [table.title] if table.title else []
    for row in (table.names, *texts):
        cells = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, table.right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write(table: Table, stream: IO[str]) -> None:
    """The table on `stream`: with rich on a terminal, as plain text elsewhere."""
    if stream.isatty():
        _write_rich(table, stream)
    else:
        print(plain(table), file=stream)


def _write_rich(table: Table, stream: IO[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    title = Text(table.title) if table.title else None
    drawn = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    texts = table.texts()
    short = max((len(row[0]) for row in texts), default=0) <= WHOLE  # names of passes and operators stay in one piece
    for place, (name, right) in enumerate(zip(table.names, table.right, strict=True)):
        whole = right or (short and place == 0)
        drawn.add_column(Text(name), justify="right" if right else "left", overflow="fold", no_wrap=whole)
    for row in texts:
        drawn.add_row(*map(Text, row))
    Console(file=stream, no_color="NO_COLOR" in os.environ, highlight=False).print(drawn)


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return printable(str(cell))


def human_bytes(count: int) -> str:
    """`3.2 MB`: decimal units, three digits at most."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def counts_text(counts: Iterable[tuple[str, int]], limit: int = 4) -> str:
    """`relu 3, matmul 2, …`: the largest first."""
    ordered = sorted(counts, key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count}" for name, count in ordered[:limit])
    return shown + (", …" if len(ordered) > limit else "")
