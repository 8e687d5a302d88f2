"""The end of the session on the terminal: the table, the notes, GitHub's annotations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pytest_caa.results import results_key

if TYPE_CHECKING:
    import pytest


def write_summary(
    reporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Write what the session has shown; nothing where no claim was collected."""
    results = config.stash.get(results_key, None)
    if results is None or not (results.collected or results.problems):
        return
