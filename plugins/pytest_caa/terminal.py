"""The end of a session on the terminal: the table, what went missing, GitHub's annotations."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_caa.results import results_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

QUIETEST_TABLE = -1
"""``-q`` has the table without its legend, ``-qq`` has none."""


def write_summary(
    reporter: pytest.TerminalReporter,
    exitstatus: int,
    config: pytest.Config,
) -> None:
    """Write what the session has shown; nothing where no claim was to be judged."""
    results = config.stash.get(results_key, None)
    option = config.option
    if results is None or option.collectonly or getattr(option, "setuponly", False):
        return
    if not results.collected and not results.problems:
        return
    document = results.document(int(exitstatus))
    verbosity = config.get_verbosity()
    if not option.no_summary and verbosity >= QUIETEST_TABLE and document["behaviors"]:
        from caa_harness.report.terminal import session_summary

        reporter.write_sep("=", "behaviors under steering")
        text = session_summary(document, legend=verbosity >= 0, color=reporter.hasmarkup)
        reporter.write(text + "\n")
    for path in results.report_paths().values():
        if path.exists() and verbosity >= QUIETEST_TABLE:
            state = "complete" if document["complete"] else "incomplete"
            reporter.write_line(
                f"report: {os.path.relpath(path, config.invocation_params.dir)} ({state})"
            )
    for problem in results.problems:
        reporter.write_line(f"caa-harness: {problem}", red=True)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(document):
            reporter.write_line(line)
    append_step_summary(document)


def github_annotations(document: dict[str, Any]) -> Iterator[str]:
    """Point GitHub at the claims that are not supported."""
    wanted = {"failed": "error", "passed": "warning", "skipped": "warning"}
    outcomes = {case["case"]: case["outcome"] for case in document["cases"]}
    for behavior in document["behaviors"]:
        for claim in behavior["claims"]:
            case = f"{behavior['file']}::{claim['id']}"
            if claim["outcome"] == "pass" or case not in outcomes:
                continue
            level = wanted.get(outcomes[case], "error")
            place = f"file={_property(claim['file'])},line={claim['line']}"
            title = f"title={_property(case + ' ' + claim['outcome'])}"
            yield f"::{level} {place},{title}::{_message(claim['reason'])}"
    for case in document["cases"]:
        if case["error"] is not None:
            place = f"file={_property(case['case'].partition('::')[0])}"
            yield f"::error {place}::{_message(case['error'])}"


def append_step_summary(document: dict[str, Any]) -> None:
    """Leave the report on the page of the GitHub job, where there is one and it has room."""
    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if not named:
        return
    from caa_harness.report.markdown import MAX_BYTES, markdown_report

    page = Path(named)
    with contextlib.suppress(OSError):
        before = page.stat().st_size if page.exists() else 0
        room = MAX_BYTES - before - 2
        text = markdown_report(document, max_bytes=room)
        if text:
            with page.open("a", encoding="utf-8", errors="replace") as stream:
                stream.write(f"\n{text}\n" if before else f"{text}\n")


def _message(text: str) -> str:
    """Escape a workflow command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a workflow command's property."""
    return _message(text).replace(":", "%3A").replace(",", "%2C")
