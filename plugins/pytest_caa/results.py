"""Reports of the cases in; the report file, the summary and the exit code's veto out.

Lives in the process that reports: the only one, or the controller of xdist's
workers.  A session in which a collected case was lost does not pass, whatever
lost it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_caa.collection import ClaimCase, is_spec, record_key
from pytest_caa.options import REPORTS, settings_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

ATTRIBUTE = "caa_record"
"""Name under which a case's plain data travel on its report."""


class Results:
    """What became of every collected claim."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = config.stash[settings_key]
        self.collected: dict[str, None] = {}
        self.deselected: set[str] = set()
        self.finished: set[str] = set()
        self.outcomes: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.behaviors: dict[str, dict[str, Any]] = {}
        self.judged: dict[str, str] = {}
        self.problems: list[str] = []
        self.started = datetime.now(UTC)

    def _is_claim(self, nodeid: str) -> bool:
        return is_spec(nodeid.partition("::")[0], self.settings.patterns)

    def expect(self, nodeids: Iterable[str]) -> None:
        """Remember which claims have been collected, of the node ids given."""
        self.collected.update((nodeid, None) for nodeid in nodeids if self._is_claim(nodeid))

    def leave_out(self, nodeids: Iterable[str]) -> None:
        """Remember which claims have been deselected."""
        self.deselected.update(nodeid for nodeid in nodeids if self._is_claim(nodeid))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn what was collected here; workers report theirs through xdist."""
        self.expect(item.nodeid for item in session.items if isinstance(item, ClaimCase))

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Learn what ``-k``, ``-m``, ``--deselect`` and ``--lf`` left out."""
        self.leave_out(item.nodeid for item in items if isinstance(item, ClaimCase))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Learn which spec could not be read."""
        if report.failed and self._is_claim(report.nodeid):
            self.errors[report.nodeid] = str(report.longrepr)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Learn what became of a case."""
        nodeid = report.nodeid
        if not self._is_claim(nodeid):
            return
        record = getattr(report, ATTRIBUTE, None)
        if record is not None:
            if "behavior" in record:
                self.behaviors[nodeid.partition("::")[0]] = record["behavior"]
                self.judged[nodeid] = record["claim"]
            if "error" in record:
                self.errors[nodeid] = record["error"]
        # xdist reports a case that took its worker down under a phase of its own.
        crashed = report.when not in ("setup", "call", "teardown")
        if crashed:
            self.errors[nodeid] = str(report.longrepr)
        if report.when == "teardown" or crashed:
            self.finished.add(nodeid)
        if report.outcome not in ("passed", "failed", "skipped"):
            self.problems.append(f"{nodeid} was run again ({report.outcome})")
        if report.failed:
            self.outcomes[nodeid] = "failed"
        elif report.when == "call" or report.skipped:
            self.outcomes.setdefault(nodeid, report.outcome)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Refuse to pass when something is missing, and write the report."""
        option = self.config.option
        if option.collectonly or getattr(option, "setuponly", False):
            return
        self._find_the_lost(session)
        self._hold_to_the_required_model()
        self._write(session)
        passing = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self.problems and session.exitstatus in passing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def missing(self) -> list[str]:
        """List the collected claims of which no report came."""
        return [nodeid for nodeid in self.collected if nodeid not in self.finished]

    def _find_the_lost(self, session: pytest.Session) -> None:
        """Name cases that were never reported, and passes that rest on no verdict."""
        # A session that was told to stop says so itself, and does not pass.
        stopped = session.shouldstop or session.shouldfail
        if not stopped and session.exitstatus != pytest.ExitCode.INTERRUPTED:
            for nodeid in self.missing():
                self.problems.append(f"{nodeid} was collected and never reported")
        for nodeid, outcome in self.outcomes.items():
            if outcome == "passed" and nodeid not in self.judged:
                self.problems.append(f"{nodeid} passed without a verdict")

    def _hold_to_the_required_model(self) -> None:
        """``--caa-require``: a session that judged nothing has shown nothing."""
        judged = any(self.outcomes.get(nodeid) in ("passed", "failed") for nodeid in self.judged)
        wanted = self.collected or self.deselected
        if self.settings.require is not None and wanted and not judged:
            self.problems.append(
                f"--caa-require {self.settings.require}: no claim was judged on this model"
            )

    def document(self, exit_status: int) -> dict[str, Any]:
        """Put the report together; plain types only."""
        from caa_harness.report.document import report_document

        cases = [
            {
                "case": nodeid,
                "outcome": self.outcomes.get(nodeid, "not run"),
                "judged": nodeid in self.judged,
                "error": self.errors.get(nodeid),
            }
            for nodeid in self.collected
        ]
        unread = [
            {"file": nodeid, "error": error}
            for nodeid, error in self.errors.items()
            if "::" not in nodeid
        ]
        return report_document(
            behaviors=self.behaviors,
            cases=cases,
            unread=unread,
            deselected=sorted(self.deselected),
            problems=self.problems,
            options={**self.settings.run, "require": self.settings.require},
            inconclusive=self.settings.inconclusive,
            started=self.started,
            exit_status=exit_status,
        )

    def report_paths(self) -> dict[str, Path]:
        """Name the reports that were asked for, by their options."""
        paths = {name: getattr(self.settings, name) for name in REPORTS}
        return {name: path for name, path in paths.items() if path is not None}

    def _write(self, session: pytest.Session) -> None:
        """Write the report files; a report that cannot be written is a failure."""
        paths = self.report_paths()
        if not paths:
            return
        status = int(session.exitstatus)
        if self.problems and status in (0, 5):
            status = 1
        document = self.document(status)
        for name, path in paths.items():
            try:
                _writer(name)(document, path)
            except OSError as error:
                self.problems.append(f"--caa-{name}: {path} cannot be written: {error.strerror}")


def _writer(name: str) -> Callable[[dict[str, Any], Path], None]:
    """Find what writes a report of one kind; what it takes is imported then."""
    if name == "html":
        from caa_harness.report.html import write_html

        return write_html
    if name == "markdown":
        from caa_harness.report.markdown import write_markdown

        return write_markdown
    from caa_harness.report.document import write_report

    return write_report


results_key = pytest.StashKey[Results]()


def attach(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Put what a claim's case has left, or why it could not, on its report."""
    if not isinstance(item, ClaimCase):
        return
    from caa_harness.errors import HarnessError

    record: dict[str, Any] = {}
    if call.when == "call" and record_key in item.stash:
        record = item.stash[record_key]
    elif call.excinfo is not None and isinstance(call.excinfo.value, HarnessError):
        record = {"error": str(call.excinfo.value)}
    if record:
        setattr(report, ATTRIBUTE, record)
    if report.skipped and isinstance(report.longrepr, tuple):
        # The place of a skip is the claim, not the line of this plugin that raised it.
        path, line, _ = item.reportinfo()
        report.longrepr = (str(path), (line or 0) + 1, report.longrepr[2])
