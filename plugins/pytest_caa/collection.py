"""Behavior specs in, one case per claim out.

A spec file is read when it is collected, which needs no model and no numpy;
what a case measures is asked for when it runs.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_caa.options import CLAIM_TYPES, MARKER, settings_key

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from caa_harness.pipeline import Run
    from caa_harness.spec import BehaviorSpec, Claim

_RERUNS = ("reruns", "force_reruns")

record_key = pytest.StashKey[dict[str, Any]]()
"""What a case leaves for the report: plain data only."""


class CaaWarning(pytest.PytestWarning):
    """A claim is undecided, and the ini file says that this is a warning."""


class ClaimNotSupportedError(Exception):
    """A claim's case fails; ``block`` is what the reader sees."""

    def __init__(self, headline: str, block: str) -> None:
        super().__init__(block)
        self.headline = headline


class BehaviorFile(pytest.File):
    """One ``*.behavior.json``."""

    def collect(self) -> Iterable[ClaimCase]:
        """Make a case of every claim.

        Raises
        ------
        pytest.Collector.CollectError
            When the spec cannot be used; names every problem of the file.
        """
        from caa_harness.errors import HarnessError
        from caa_harness.spec import load_spec

        try:
            spec = load_spec(self.path)
        except HarnessError as error:
            raise self.CollectError(str(error)) from error
        for claim in spec.claims:
            yield ClaimCase.from_parent(
                self,
                name=claim.id,
                callobj=_case(self.path, spec, claim),
                claim=claim,
            )


class ClaimCase(pytest.Function):
    """One claim of one spec."""

    def __init__(self, *, claim: Claim, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.claim = claim

    @property
    def id(self) -> Any:
        """Take the node id apart as pytest does when it reads one back from a file.

        Functions that nobody parametrised keep the brackets in their name, and are
        then not found again: by ``--lf``, by ``--sw``, on a report that a worker sent.
        pytest has this since 9.2; older ones compare texts and never ask.
        """
        return type(super().id).parse(self.nodeid)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Point at the claim in the JSON file."""
        position = self.claim.position
        return self.path, position.line - 1, f"{self.path.name}::{self.name}"

    def runtest(self) -> None:
        """Ask for the verdict; a second attempt is never made."""
        from caa_harness.errors import OptionError

        if getattr(self, "execution_count", 1) > 1:
            raise OptionError(
                "a claim's case was run again",
                where=self.nodeid,
                remedy="leave reruns to other tests: a gate that tries again until it passes"
                " has no error rate",
            )
        super().runtest()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """Show the verdict, or the harness's own words, instead of Python frames."""
        from caa_harness.errors import HarnessError

        error = excinfo.value
        if isinstance(error, ClaimNotSupportedError):
            headline = error.headline
        elif isinstance(error, HarnessError):
            headline = error.found
        elif isinstance(error, CaaWarning):
            headline = str(error)
        else:
            return super().repr_failure(excinfo)
        shown: Any = excinfo.getrepr(style="value")
        place = dataclasses.replace(
            shown.reprcrash,
            path=str(self.path),
            lineno=self.claim.position.line,
            message=headline,
        )
        # One link: what led to the error is in its words.
        shown.reprcrash, shown.chain = place, [(shown.reprtraceback, place, None)]
        return shown


def _case(path: Path, spec: BehaviorSpec, claim: Claim) -> Callable[..., None]:
    """Return the function that judges ``claim``; its marks become the case's."""
    from caa_harness.report.document import claim_type

    kind = claim_type(claim)

    def judge_claim(request: pytest.FixtureRequest, caa_run: Run) -> None:
        from pytest_caa.judging import settle

        settle(request.node, caa_run, path)

    marked = pytest.mark.caa(spec=str(path), behavior=spec.behavior, claim=claim.id, type=kind)
    by_type: pytest.MarkDecorator = getattr(pytest.mark, f"caa_{kind}")
    return by_type(marked(judge_claim))


def is_spec(path: Path | str, patterns: Iterable[str]) -> bool:
    """Whether a file's name is that of a behavior spec."""
    name = Path(path).name
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def collect_file(file_path: Path, parent: pytest.Collector) -> BehaviorFile | None:
    """Take spec files, and no others."""
    patterns = parent.config.stash[settings_key].patterns
    if not is_spec(file_path, patterns):
        return None
    return BehaviorFile.from_parent(parent, path=file_path)


def generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked ``caa(specs=FOLDER)`` once per spec."""
    marks = list(metafunc.definition.iter_markers("caa"))
    if not marks:
        return
    mark = marks[0]
    where = f"{metafunc.definition.nodeid}: @pytest.mark.caa"
    unknown = sorted(mark.kwargs.keys() - {"spec", "specs"})
    if unknown or mark.args or len(mark.kwargs) != 1:
        found = ", ".join(unknown) or f"{len(mark.args)} positional, {len(mark.kwargs)} named"
        message = (
            f"{where}: takes one of spec='x.behavior.json' and specs='FOLDER', found: {found}\n"
            "  try: name one of the two by its keyword"
        )
        raise pytest.Collector.CollectError(message)
    if "spec" in mark.kwargs:
        return
    if "caa_spec" not in metafunc.fixturenames:
        message = (
            f"{where}: specs= needs a caa_* fixture that carries the spec\n"
            "  try: ask for caa_spec, caa_vector, caa_measurements or caa_verdicts"
        )
        raise pytest.Collector.CollectError(message)
    folder = resolve(metafunc.config, metafunc.definition.path, mark.kwargs["specs"])
    patterns = metafunc.config.stash[settings_key].patterns
    paths = sorted(path for path in folder.glob("*") if is_spec(path, patterns))
    if not paths:
        message = (
            f"{where}: no behavior spec in {folder}\n"
            f"  try: a folder that holds files named {' '.join(patterns)}"
        )
        raise pytest.Collector.CollectError(message)
    names = [path.name.removesuffix(".json").removesuffix(".behavior") for path in paths]
    metafunc.parametrize("caa_spec", paths, indirect=True, ids=names)


def resolve(config: pytest.Config, test_file: Path, given: str | os.PathLike[str]) -> Path:
    """Find a marker's path: beside the test file, else under the root folder."""
    beside, under_root = test_file.parent / given, config.rootpath / given
    return beside if beside.exists() else under_root


def refuse_reruns(config: pytest.Config, items: Iterable[pytest.Item] = ()) -> None:
    """Refuse pytest-rerunfailures on claims: tried often enough, a false claim passes.

    Raises
    ------
    pytest.UsageError
        When a failing claim would be tried again.
    """
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    found = [
        f"--{name.replace('_', '-')} {config.getoption(name)}"
        for name in _RERUNS
        if _asked(config, name)
    ]
    found += [f"a flaky marker on {item.nodeid}" for item in items if _is_flaky(item)]
    if config.getini("reruns"):
        found.append(f"reruns = {config.getini('reruns')} in the ini file")
    if found:
        message = (
            f"{found[0]}: claims are not run again, or their error rate would mean nothing\n"
            "  try: run behavior specs in a session of their own, without reruns"
        )
        raise pytest.UsageError(message)


def _asked(config: pytest.Config, name: str) -> bool:
    return bool(config.getoption(name, None))


def _is_flaky(item: pytest.Item) -> bool:
    return item.get_closest_marker("flaky") is not None


def register_markers(config: pytest.Config) -> None:
    """Make the markers known, for ``--markers`` and ``--strict-markers``."""
    config.addinivalue_line("markers", MARKER)
    for kind in CLAIM_TYPES:
        line = f"caa_{kind}: set on every collected claim of type {kind}, for -m"
        config.addinivalue_line("markers", line)
