"""No second attempts: a claim that is tried until it passes has shown nothing."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

REPLAY = ("specs", "--caa-replay", "recorded")


@pytest.fixture
def reruns():
    """The plugin that runs failing tests again, where it is installed."""
    pytest.importorskip("pytest_rerunfailures")


@pytest.mark.usefixtures("reruns")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--reruns", "2"], "--reruns 2"),
        (["--force-reruns", "3"], "--force-reruns 3"),
        (["-o", "reruns=4"], "reruns = 4 in the ini file"),
    ],
)
def test_reruns_of_claims_are_refused(pytester, recorded_spec, arguments, found):
    recorded_spec()

    result = pytester.runpytest_inprocess(*REPLAY, *arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {found}: claims are not run again*", "  try: *"])


@pytest.mark.usefixtures("reruns")
def test_a_flaky_marker_on_a_claim_is_refused(pytester, recorded_spec):
    recorded_spec()
    pytester.makeconftest(
        "def pytest_collection_modifyitems(items):\n"
        "    for item in items:\n"
        "        item.add_marker('flaky')\n"
    )

    result = pytester.runpytest_inprocess(*REPLAY)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("ERROR: a flaky marker on specs/candor.behavior.json::shift*")


@pytest.mark.usefixtures("reruns")
def test_reruns_under_workers_are_refused(pytester, recorded_spec):
    recorded_spec()

    result = pytester.runpytest_subprocess(*REPLAY, "--reruns", "2", "-n1")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("ERROR: --reruns 2: claims are not run again*")


@pytest.mark.usefixtures("reruns")
def test_other_tests_may_be_run_again(pytester):
    pytester.makepyfile("def test_sum(): assert 1 + 1 == 2")

    result = pytester.runpytest_inprocess("--reruns", "2")

    assert result.ret == 0


def test_a_claim_that_is_run_again_by_whatever_means_fails(pytester, recorded_spec):
    recorded_spec()
    # What pytest-rerunfailures leaves on an item that it runs for the second time.
    pytester.makeconftest("def pytest_runtest_setup(item): item.execution_count = 2")

    result = pytester.runpytest_inprocess(*REPLAY)

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines("*::shift[[]m+1[]]: a claim's case was run again")
