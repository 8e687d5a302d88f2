"""A bar on the real terminal while something is measured.

Only a terminal gets one: no bar in a log file, on a worker, or with ``-q``.
pytest captures file descriptor 2 while a case runs, so the bar writes to a copy
that is made before, when the session is configured.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

import pytest

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """Shows ``stage: done of total``; starts when first called, goes when closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is."""
        if self._stream is None:
            return
        if self._progress is None:
            self._progress = self._start(self._stream)
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    @property
    def is_shown(self) -> bool:
        """Whether the bar is on the screen."""
        return self._progress is not None

    def close(self) -> None:
        """Take the bar off the screen, so that pytest's own line can go on."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None
        self._tasks = {}

    def forget_terminal(self) -> None:
        """Give the terminal back at the end of the session."""
        self.close()
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    @staticmethod
    def _start(stream: TextIO) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        # pytest's cursor stands behind a file's name: the bar takes the next line.
        stream.write("\n")
        progress.start()
        return progress


bar_key = pytest.StashKey[Bar]()


def open_bar(config: pytest.Config) -> Bar:
    """Make the session's bar; a silent one where there is nobody to look at it."""
    quiet = config.get_verbosity() < 0 or os.environ.get("TERM") == "dumb"
    if quiet or hasattr(config, "workerinput") or not _is_terminal():
        return Bar(None)
    return Bar(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace"))


def _is_terminal() -> bool:
    """Whether standard error is a terminal, also where a program has closed it."""
    try:
        return sys.stderr.isatty() and os.isatty(2)
    except (AttributeError, OSError, ValueError):
        return False
