"""``--caa-json``: whole or not at all, and honest about what it does not hold."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]

REPLAY = ("specs", "--caa-replay", "recorded", "--caa-json", "out/report.json")


def read(pytester):
    return json.loads((pytester.path / "out" / "report.json").read_text(encoding="utf-8"))


def test_the_report_holds_each_number_with_its_n_and_interval(pytester, recorded_spec):
    recorded_spec()

    result = pytester.runpytest_inprocess(*REPLAY)
    report = read(pytester)

    assert result.ret == 0
    result.stdout.fnmatch_lines("report: out/report.json (complete)")
    assert report["format"] == "caa-report/1"
    assert report["complete"] is True
    assert report["incomplete_because"] == []
    assert report["exit_status"] == 0
    assert report["counts"] == {"pass": 3, "fail": 0, "inconclusive": 0, "not_judged": 0}
    assert report["options"]["replay"].endswith("recorded")
    assert report["packages"]["caa-harness"]
    (behavior,) = report["behaviors"]
    assert behavior["file"] == "specs/candor.behavior.json"
    assert behavior["layer"] == behavior["vector"]["layer"] == 16
    assert behavior["model"]["name"] == "org/recorded-7b"
    unsteered = next(one for one in behavior["summary"]["multipliers"] if one["multiplier"] == 0)
    assert unsteered["score"]["n"] == 24
    assert unsteered["score"]["low"] < unsteered["score"]["point"] < unsteered["score"]["high"]
    claim = behavior["claims"][0]
    assert claim["id"] == "shift[m+1]"
    assert claim["outcome"] == "pass"
    assert claim["parts"][0]["estimate"]["low"] > claim["parts"][0]["bound"] == 0.1
    assert claim["line"] > 1


def test_the_report_is_written_when_claims_fail(pytester, recorded_spec):
    recorded_spec(slope=0.1)

    result = pytester.runpytest_inprocess(*REPLAY)
    report = read(pytester)

    assert result.ret == report["exit_status"] == 1
    assert report["complete"] is True
    assert report["counts"] == {"pass": 1, "fail": 2, "inconclusive": 0, "not_judged": 0}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-k", "level"], "specs/candor.behavior.json::shift[m+1] was deselected"),
        (["-x"], "specs/candor.behavior.json::shift[m-1] was not judged"),
        (["specs/candor.behavior.json::shift[m+1]"], "*level[m+0] was not judged"),
    ],
)
def test_a_report_of_a_part_says_so(pytester, recorded_spec, arguments, reason):
    recorded_spec(slope=0.1)
    place = [] if "::" in arguments[0] else ["specs"]

    pytester.runpytest_inprocess(*place, *arguments, *REPLAY[1:])
    report = read(pytester)

    assert report["complete"] is False
    pytest.LineMatcher(report["incomplete_because"]).fnmatch_lines(
        reason.replace("[", "[[]"), consecutive=False
    )


def test_an_unreadable_spec_stands_in_the_report(pytester, recorded_spec, write_spec):
    recorded_spec("candor")
    write_spec("tact", seed="seven")

    result = pytester.runpytest_inprocess(*REPLAY, "--continue-on-collection-errors")
    report = read(pytester)

    assert result.ret != 0
    assert report["complete"] is False
    assert report["unread"][0]["file"] == "specs/tact.behavior.json"
    assert "/seed" in report["unread"][0]["error"]
    assert report["counts"]["pass"] == 3


def test_an_error_stands_in_the_report(pytester, recorded_spec, write_spec):
    recorded_spec("candor")
    write_spec("tact")

    pytester.runpytest_inprocess(*REPLAY)
    report = read(pytester)

    errors = [case["error"] for case in report["cases"] if case["error"]]
    assert report["complete"] is False
    assert report["counts"]["not_judged"] == len(errors) == 3
    assert "nothing is recorded for tact" in errors[0]


def test_a_session_without_specs_reports_that_nothing_was_judged(pytester):
    pytester.mkdir("specs")

    result = pytester.runpytest_inprocess("specs", "--caa-json", "out/report.json")
    report = read(pytester)

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert report["complete"] is False
    assert report["incomplete_because"] == ["no claim was judged"]


def test_collecting_alone_writes_nothing(pytester, recorded_spec):
    recorded_spec()

    pytester.runpytest_inprocess(*REPLAY, "--collect-only")

    assert not (pytester.path / "out").exists()


def test_a_report_that_cannot_be_written_fails_the_session(pytester, recorded_spec):
    recorded_spec()
    # The folder turns into a file while the session runs.
    arguments = (*REPLAY[:3], "--caa-json", "gone/report.json")
    pytester.makeconftest(
        "import pathlib\ndef pytest_collection_finish():\n    pathlib.Path('gone').touch()\n"
    )
    result = pytester.runpytest_inprocess(*arguments)

    assert result.ret == 1
    result.stdout.fnmatch_lines("caa-harness: --caa-json: *report.json cannot be written: *")


def test_an_interrupted_session_leaves_a_whole_report(pytester, recorded_spec):
    recorded_spec()
    pytester.makeconftest(
        "def pytest_runtest_teardown(item):\n"
        "    if 'm-1' in item.nodeid:\n"
        "        raise KeyboardInterrupt\n"
    )

    result = pytester.runpytest_inprocess(*REPLAY, no_reraise_ctrlc=True)
    report = read(pytester)

    assert result.ret == pytest.ExitCode.INTERRUPTED == report["exit_status"]
    assert report["complete"] is False
    assert "specs/candor.behavior.json::level[m+0] was not judged" in report["incomplete_because"]
    assert [path.name for path in (pytester.path / "out").iterdir()] == ["report.json"]
