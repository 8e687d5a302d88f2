"""The pytest plugin: behavior specs are collected, each claim is a case.

Hooks only; each hands its work to the module that knows how.  Loading the
plugin imports neither numpy nor torch, and neither does collecting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_caa import collection, options, progress
from pytest_caa.fixtures import (
    caa_engine,
    caa_measurements,
    caa_run,
    caa_spec,
    caa_vector,
    caa_verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = [
    "caa_engine",
    "caa_measurements",
    "caa_run",
    "caa_spec",
    "caa_vector",
    "caa_verdicts",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--caa-*`` and the ini keys ``caa_*``."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, and set up what the session keeps."""
    from pytest_caa import results

    collection.register_markers(config)
    config.stash[options.settings_key] = options.read_settings(config)
    config.stash[progress.bar_key] = progress.open_bar(config)
    worker = hasattr(config, "workerinput")
    if not worker:
        config.stash[results.results_key] = results.Results(config)
        config.pluginmanager.register(config.stash[results.results_key], "caa-results")
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_caa import workers

        if worker:
            workers.take_own_gpu(config)
            config.pluginmanager.register(workers.Worker(config), "caa-worker")
        else:
            workers.check_worker_count(config)
            config.pluginmanager.register(workers.Controller(config), "caa-controller")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the terminal back."""
    bar = config.stash.get(progress.bar_key, None)
    if bar is not None:
        bar.forget_terminal()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Answer ``-n auto``: one worker per GPU, where GPUs are asked for."""
    from pytest_caa import workers

    return len(workers.gpus()) or None if workers.wants_gpus(config) else None


def pytest_collect_file(
    file_path: Path,
    parent: pytest.Collector,
) -> collection.BehaviorFile | None:
    """Collect ``*.behavior.json``."""
    return collection.collect_file(file_path, parent)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that are marked ``caa(specs=FOLDER)`` once per spec."""
    collection.generate_tests(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse to try claims again; on workers, the controller refuses."""
    claims = [item for item in items if isinstance(item, collection.ClaimCase)]
    if claims and not hasattr(config, "workerinput"):
        collection.refuse_reruns(config, claims)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, Any, Any]:
    """Let a case's plain data travel with its report, from workers as well."""
    from pytest_caa.results import attach

    item.config.stash[progress.bar_key].close()
    report = yield
    attach(item, call, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the bar down, also where a case was interrupted and made no report."""
    session.config.stash[progress.bar_key].close()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
    exitstatus: int,
    config: pytest.Config,
) -> None:
    """Show the table, where any claim was collected."""
    from pytest_caa import terminal

    terminal.write_summary(terminalreporter, exitstatus, config)
