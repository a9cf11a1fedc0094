"""Tables as aligned text and on a terminal."""

from __future__ import annotations

import io

import pytest

from graphopt.report.tables import Table, counts_text, human_bytes, plain, write


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table() -> Table:
    made = Table(["name", "count>", "note"], title="what there is")
    made.add("conv", 1234567, None)
    made.add("[bold]x\x1b[31m", 5, "two\nlines")
    return made


def test_plain_text_is_aligned_and_inert() -> None:
    assert plain(table()).splitlines() == [
        "what there is",
        "name                 count  note",
        "conv             1,234,567",
        "[bold]x\\x1b[31m          5  two\\nlines",
    ]


def test_a_table_without_rows_is_its_headings() -> None:
    assert plain(Table(["a", "b>"])) == "a  b"


def test_nothing_but_text_goes_to_what_is_no_terminal() -> None:
    stream = io.StringIO()
    write(table(), stream)
    assert stream.getvalue() == plain(table()) + "\n"


def test_a_terminal_gets_a_drawing_without_markup_or_escapes_of_the_data(monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    write(table(), stream)
    shown = stream.getvalue()
    assert "[bold]x\\x1b[31m" in shown
    assert "1,234,567" in shown
    assert "\x1b[31m" not in shown


def test_a_narrow_terminal_breaks_neither_short_names_nor_numbers(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    wide = Table(["pass", "nodes>", "after>", "rules fired"])
    wide.add("prune-control-dependencies", 1234567, 1234567, "prune-control-dependencies 17, and some others 2")
    write(wide, stream)
    assert "prune-control-dependencies  1,234,567  1,234,567" in stream.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (123456, "123 kB"),
        (2.5e9, "2.5 GB"),
        (3e15, "3e+03 TB"),
    ],
)
def test_bytes_in_decimal_units(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_counts_show_the_largest_first() -> None:
    assert counts_text({"a": 1, "b": 3, "c": 3}.items()) == "b 3, c 3, a 1"
    assert counts_text(((str(n), n) for n in range(6)), limit=2) == "5 5, 4 4, …"
    assert counts_text(()) == ""
