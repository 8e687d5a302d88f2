"""Workers: the same results as one process, measured once, and nothing lost unnoticed."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]
pytest.importorskip("xdist")

REPLAY = ("specs", "--caa-replay", "recorded", "--caa-json", "report.json")


LOSING = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    return True if "m-1" in item.nodeid else None
"""


def report(pytester):
    return json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))


def without_the_moment(found):
    return {key: value for key, value in found.items() if key != "started"}


def test_two_workers_report_what_one_process_does(pytester, recorded_spec):
    recorded_spec("candor")
    recorded_spec("tact", slope=0.1)

    alone = pytester.runpytest_inprocess(*REPLAY)
    numbers_alone = without_the_moment(report(pytester))
    spread = pytester.runpytest_subprocess(*REPLAY, "-n2")
    numbers_spread = without_the_moment(report(pytester))

    assert alone.ret == spread.ret == 1
    assert alone.parseoutcomes() == spread.parseoutcomes() == {"passed": 4, "failed": 2}
    assert numbers_spread == numbers_alone
    start = alone.outlines.index("claims: 4 pass, 2 fail, 0 inconclusive")
    table = alone.outlines[start - 20 : start]
    assert any(line.startswith("tact ") for line in table)
    start = spread.outlines.index("claims: 4 pass, 2 fail, 0 inconclusive")
    assert spread.outlines[start - 20 : start] == table


@pytest.mark.slow
def test_what_workers_leave_out_is_known(pytester, recorded_spec):
    recorded_spec()

    result = pytester.runpytest_subprocess(*REPLAY, "-n2", "-k", "not level")

    assert result.ret == 0
    assert report(pytester)["incomplete_because"] == [
        "specs/candor.behavior.json::level[m+0] was deselected",
        "specs/candor.behavior.json::level[m+0] was not judged",
    ]


def test_a_worker_that_dies_fails_the_session(pytester, recorded_spec):
    recorded_spec()
    pytester.makeconftest("import os\ndef pytest_runtest_setup(item): os._exit(3)\n")

    result = pytester.runpytest_subprocess(*REPLAY, "-n1", "-k", "m-1")

    assert result.ret == 1
    found = report(pytester)
    assert found["complete"] is False
    assert "specs/candor.behavior.json::shift[m-1] was not judged" in found["incomplete_because"]
    (lost,) = found["cases"]
    assert "crashed while running" in lost["error"]


def test_a_case_that_a_worker_never_reports_fails_the_session(pytester, recorded_spec):
    recorded_spec()
    # All that is reported passes, and pytest alone is content with that.
    pytester.makepyfile("def test_sum(): assert 1 + 1 == 2")
    pytester.makeconftest(LOSING)

    result = pytester.runpytest_subprocess(".", *REPLAY[1:], "-n1", "-k", "m-1 or sum")

    assert result.ret == 1
    assert result.parseoutcomes() == {"passed": 1}
    result.stdout.fnmatch_lines(
        "caa-harness: specs/candor.behavior.json::shift[[]m-1[]] was collected and never reported"
    )
    assert report(pytester)["complete"] is False
    assert report(pytester)["exit_status"] == 1


def test_a_case_that_is_never_reported_fails_one_process_as_well(pytester, recorded_spec):
    recorded_spec()
    pytester.makeconftest(LOSING)

    lost = pytester.runpytest_inprocess(*REPLAY)
    content = pytester.runpytest_inprocess(*REPLAY, "-k", "not m-1")

    assert lost.ret == 1
    assert lost.parseoutcomes() == {"passed": 2}
    lost.stdout.fnmatch_lines("caa-harness: *shift[[]m-1[]] was collected and never reported")
    assert content.ret == 0


def test_a_pass_that_rests_on_no_verdict_fails_the_session(pytester, recorded_spec):
    recorded_spec()
    pytester.makeconftest("def pytest_pyfunc_call(): return True\n")

    result = pytester.runpytest_inprocess(*REPLAY)

    assert result.ret == 1
    assert result.parseoutcomes() == {"passed": 3}
    result.stdout.fnmatch_lines("caa-harness: *::shift[[]m-1[]] passed without a verdict")


@pytest.mark.slow
def test_a_worker_that_cannot_send_its_results_fails_the_session(pytester, recorded_spec):
    recorded_spec()
    # A numpy number cannot be sent to the controller.
    pytester.makeconftest(
        "import numpy as np\n"
        "def pytest_runtest_call(item):\n"
        "    item.user_properties.append(('mine', np.float64(1)))\n"
    )

    result = pytester.runpytest_subprocess(*REPLAY, "-n2")

    assert result.ret != 0
    assert report(pytester)["complete"] is False


def test_more_workers_than_gpus_are_refused(pytester, recorded_spec, monkeypatch):
    recorded_spec()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")

    result = pytester.runpytest_inprocess(*REPLAY, "--caa-device", "cuda", "-n2")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*--caa-device cuda: 2 workers for 1 GPUs")


@pytest.mark.slow
def test_each_worker_gets_one_gpu_of_the_callers_list(pytester, recorded_spec, monkeypatch):
    recorded_spec()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    pytester.makeconftest(
        "import os, pathlib\n"
        "def pytest_sessionfinish(session):\n"
        "    worker = os.environ.get('PYTEST_XDIST_WORKER', 'controller')\n"
        "    pathlib.Path(worker).write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )

    asked = ("--caa-device", "cuda", "-n", "auto", "-k", "no")
    result = pytester.runpytest_subprocess(*REPLAY, *asked)

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    places = {name: (pytester.path / name).read_text() for name in ("gw0", "gw1", "controller")}
    assert places == {"gw0": "5", "gw1": "3", "controller": "5,3"}
