"""The bar appears on a terminal after a while, and nowhere else."""

from __future__ import annotations

import io
import threading

from graphopt.report.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_written_off_a_terminal_or_when_quiet() -> None:
    for stream, enabled in ((io.StringIO(), True), (Terminal(), False)):
        with Progress(stream, enabled, patience=0) as progress:
            progress(0, 2, "first")
            progress(1, 2, "second")
        assert stream.getvalue() == ""
        assert not progress.is_shown


def test_short_work_shows_nothing_on_a_terminal() -> None:
    stream = Terminal()
    with Progress(stream, patience=60) as progress:
        progress(0, 1, "quick")
    assert stream.getvalue() == ""


def test_longer_work_shows_what_is_running(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream, shown = Terminal(), threading.Event()
    show = Progress._show
    monkeypatch.setattr(Progress, "_show", lambda self: (show(self), shown.set()))
    with Progress(stream, patience=0) as progress:
        assert shown.wait(30)
        progress(1, 4, "fold-\x1b[31mconstants")
        assert progress.is_shown
    assert "fold-\\x1b[31mconstants" in stream.getvalue()
