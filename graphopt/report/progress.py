"""A progress bar for work over a second, on a terminal and nowhere else."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import IO, Any

from graphopt.ir.errors import printable

PATIENCE = 1.0  # seconds of work before a bar is worth showing


class Progress:
    """Call it with how many steps are done, how many there are and the name of the one that starts.

    On a terminal a bar appears once the work has taken `PATIENCE` seconds; elsewhere nothing is ever written.
    """

    def __init__(self, stream: IO[str], enabled: bool = True, patience: float = PATIENCE) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._state: tuple[int, int, str] = (0, 0, "")
        self._bar: Any = None
        self._task: Any = None
        self._closed = False
        self._timer = threading.Timer(patience, self._show) if enabled and stream.isatty() else None
        if self._timer is not None:
            self._timer.daemon = True

    def __enter__(self) -> Progress:
        if self._timer is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._bar is not None:
                self._bar.stop()

    def __call__(self, done: int, total: int, name: str) -> None:
        """`name` starts, `done` of `total` steps are behind it."""
        with self._lock:
            self._state = (done, total, name)
            self._refresh()

    @property
    def is_shown(self) -> bool:
        """The bar is on the screen."""
        return self._bar is not None

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        with self._lock:
            if self._closed:
                return
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(),
                console=Console(file=self._stream), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("")
            self._refresh()
            self._bar.start()

    def _refresh(self) -> None:
        if self._bar is not None:
            done, total, name = self._state
            self._bar.update(self._task, completed=done, total=total or None, description=printable(name, 40))
