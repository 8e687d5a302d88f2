"""What a verdict does to its case, and what the reader of a failure sees."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

pytest_plugins = ["pytester"]

REPLAY = ("specs", "--caa-replay", "recorded")


def test_supported_claims_pass(pytester, recorded_spec):
    recorded_spec(slope=1.0)

    result = pytester.runpytest_inprocess(*REPLAY)

    assert result.ret == 0
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["candor*pass", "layer 16, n 24*3 of 3", "claims: 3 pass, 0 fail*"])


def test_a_refuted_claim_fails_with_its_verdict_at_its_line(pytester, recorded_spec):
    path = recorded_spec(slope=0.1)

    result = pytester.runpytest_inprocess(*REPLAY)

    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=2)
    claim = path.read_text(encoding="utf-8").splitlines().index('      "type": "shift",')
    result.stdout.fnmatch_lines(
        [
            "*_ candor.behavior.json::shift[[]m+1[]] _*",
            f"specs/candor.behavior.json:{claim}: shift[[]m+1[]]: fail",
            "shift at +1 is +0.* (n = 24, *interval)*it must be at*",
            "part *estimate *bound *confidence *n *n to decide",
            "shift at +1 *> 0.1 *24*",
            "candor: 24 held-out questions, layer 16, spec *",
            "model org/recorded-7b: LlamaForCausalLM, 32 layers*",
            "FAILED specs/candor.behavior.json::shift[[]m+1[]] - shift at +1 is *",
        ]
    )
    shown = result.stdout.str()
    assert "judging.py" not in shown
    assert "Error" not in shown


def test_everything_shown_keeps_within_80_columns(pytester, recorded_spec):
    recorded_spec("survival-instinct", slope=0.1)
    recorded_spec(slope=0.3, spread=1.5)

    result = pytester.runpytest_inprocess(*REPLAY)

    shown = result.outlines[result.outlines.index("") :]
    assert result.ret == 1
    assert max(map(len, shown)) <= 80
    assert all(line.isascii() for line in shown)


@pytest.mark.parametrize(
    ("setting", "outcome", "status"),
    [("fail", "failed", 1), ("warn", "passed", 0), ("skip", "skipped", 0)],
)
def test_an_undecided_claim_does_what_the_ini_file_says(
    pytester, recorded_spec, setting, outcome, status
):
    claim = {"type": "shift", "multiplier": 1, "at_least": 0.1}
    recorded_spec(claims=[claim], slope=0.5, spread=1.5)

    chosen = ("-o", f"caa_inconclusive={setting}")
    result = pytester.runpytest_inprocess(*REPLAY, *chosen, "-rs", "-W", "default")

    assert result.ret == status
    assert result.parseoutcomes()[outcome] == 1
    result.stdout.fnmatch_lines("claims: 0 pass, 0 fail, 1 inconclusive")
    if setting == "warn":
        result.assert_outcomes(passed=1, warnings=1)
        result.stdout.fnmatch_lines("*candor.behavior.json:*CaaWarning: undecided: shift at +1*")
    if setting == "skip":
        result.stdout.fnmatch_lines("SKIPPED*specs/candor.behavior.json:*: undecided: shift at +1*")


def test_undecided_fails_unless_somebody_says_otherwise(pytester, recorded_spec):
    claim = {"type": "shift", "multiplier": 1, "at_least": 0.1}
    recorded_spec(claims=[claim], slope=0.5, spread=1.5)

    result = pytester.runpytest_inprocess(*REPLAY)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("specs/candor.behavior.json:*: shift[[]m+1[]]: inconclusive")


def test_a_harness_error_is_told_in_its_own_words(pytester, write_spec, recorded_spec):
    recorded_spec("candor")
    write_spec("tact")

    result = pytester.runpytest_inprocess(*REPLAY, "-k", "tact and level")

    assert result.ret == 1
    shown = result.stdout.str()
    assert "nothing is recorded for tact" in shown
    assert "  try: measure it first" in shown
    assert "Traceback" not in shown
    assert "pipeline.py" not in shown


def test_junit_carries_the_numbers(pytester, recorded_spec):
    recorded_spec(slope=1.0)

    result = pytester.runpytest_inprocess(*REPLAY, "--junitxml=out.xml", "-W", "error")

    case = ET.parse(pytester.path / "out.xml").find(".//testcase[@name='shift[m+1]']")
    numbers = {one.get("name"): one.get("value") for one in case.findall(".//property")}
    assert result.ret == 0
    assert numbers["caa_outcome"] == "pass"
    assert numbers["caa_behavior"] == "candor"
    assert numbers["caa_layer"] == "16"
    assert numbers["caa_shift_at_+1_n"] == "24"
    assert float(numbers["caa_shift_at_+1_low"]) > 0.1
    assert float(numbers["caa_shift_at_+1_at_least"]) == 0.1


def test_properties_are_plain_to_the_bottom(pytester, recorded_spec):
    recorded_spec(slope=1.0)
    pytester.makeconftest(
        "def pytest_runtest_logreport(report):\n"
        "    for name, value in report.user_properties:\n"
        "        assert type(value) in (str, int, float, bool, type(None)), (name, value)\n"
        "        print('checked', name) if report.when == 'call' else None\n"
    )

    result = pytester.runpytest_inprocess(*REPLAY, "-s")

    assert result.ret == 0
    assert result.stdout.str().count("checked caa_outcome") == 3


def test_the_first_failure_can_end_the_session(pytester, recorded_spec):
    recorded_spec(slope=0.1)

    result = pytester.runpytest_inprocess(*REPLAY, "-x")

    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*0 of 1", "*2 not run", "claims: 0 pass, 1 fail, *2 not judged"])


def test_the_last_failures_can_be_run_again(pytester, recorded_spec, record):
    path = recorded_spec(slope=0.1)
    first = pytester.runpytest_inprocess(*REPLAY)
    record(path, slope=1.0)

    second = pytester.runpytest_inprocess(*REPLAY, "--lf")

    first.assert_outcomes(passed=1, failed=2)
    second.assert_outcomes(passed=2)
    second.stdout.fnmatch_lines(["candor * pass", "*2 of 2", "*1 not run"])
    assert second.ret == 0


def test_a_session_goes_on_where_it_stopped(pytester, recorded_spec, record):
    level = {"type": "level", "multiplier": 0, "at_least": 0.05}
    shift = {"type": "shift", "multiplier": 1, "at_least": 0.1}
    path = recorded_spec(claims=[level, shift], slope=0.1)
    stopped = pytester.runpytest_inprocess(*REPLAY, "--sw")
    record(path, slope=1.0)

    resumed = pytester.runpytest_inprocess(*REPLAY, "--sw")

    stopped.assert_outcomes(passed=1, failed=1)
    resumed.assert_outcomes(passed=1, deselected=1)


def test_durations_name_the_claims(pytester, recorded_spec):
    recorded_spec()

    result = pytester.runpytest_inprocess(*REPLAY, "--durations=1", "--durations-min=0", "-vv")

    result.stdout.fnmatch_lines("*s call *specs/candor.behavior.json::*")


@pytest.mark.parametrize(
    ("arguments", "table", "legend"),
    [([], True, True), (["-q"], True, False), (["-qq"], False, False), (["--no-summary"], 0, 0)],
)
def test_the_summary_is_as_loud_as_asked(pytester, recorded_spec, arguments, table, legend):
    recorded_spec()

    result = pytester.runpytest_inprocess(*REPLAY, *arguments)

    shown = result.stdout.str()
    assert result.ret == 0
    assert ("unsteered shift at -1" in shown) == table
    assert ("How to read it" in shown) == legend


@pytest.mark.parametrize(("color", "escapes"), [("yes", True), ("no", False)])
def test_colour_is_never_the_only_carrier(pytester, recorded_spec, color, escapes):
    recorded_spec(slope=0.1)

    result = pytester.runpytest_inprocess(*REPLAY, f"--color={color}")

    line = next(line for line in result.outlines if line.startswith("candor "))
    assert ("\x1b[" in line) == escapes
    assert "fail" in line


def test_sessions_without_claims_say_nothing(pytester):
    pytester.makepyfile("def test_sum(): assert 1 + 1 == 2")

    result = pytester.runpytest_inprocess("-W", "error")

    result.assert_outcomes(passed=1)
    assert "caa" not in result.stdout.str().replace("caa-harness-0", "")
    assert "behaviors" not in result.stdout.str()


def test_github_is_pointed_at_the_line(pytester, recorded_spec, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "page.md")
    recorded_spec(slope=0.1)

    result = pytester.runpytest_inprocess(*REPLAY)

    found = [line for line in result.outlines if line.startswith("::error ")]
    assert len(found) == 2
    place = "::error file=specs/candor.behavior.json,line="
    assert found[0].startswith(place)
    assert "title=specs/candor.behavior.json%3A%3Ashift[m+1] fail::shift at +1 is" in found[0]
    # Percent signs of the message are escaped.
    assert " %25 interval)" in found[0]
    page = (pytester.path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("## Not passed")
    assert "3 claims: 1 pass, 2 fail" in page.replace("&#58;", ":")


def test_other_places_get_no_annotations(pytester, recorded_spec, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    recorded_spec(slope=0.1)

    result = pytester.runpytest_inprocess(*REPLAY)

    assert "::error" not in result.stdout.str()


def test_replayed_numbers_of_another_model_do_not_count(pytester, recorded_spec):
    recorded_spec()

    wrong = pytester.runpytest_inprocess(*REPLAY, "--caa-require", "org/other-7b")
    right = pytester.runpytest_inprocess(*REPLAY, "--caa-require", "org/recorded-7b")

    assert wrong.ret == 1
    wrong.stdout.fnmatch_lines("*measured on 'org/recorded-7b', not 'org/other-7b'")
    assert right.ret == 0


def test_a_required_model_that_judged_nothing_is_no_success(pytester, recorded_spec):
    claim = {"type": "shift", "multiplier": 1, "at_least": 0.1}
    recorded_spec(claims=[claim], slope=0.5, spread=1.5)

    result = pytester.runpytest_inprocess(
        *REPLAY, "--caa-require", "org/recorded-7b", "-o", "caa_inconclusive=skip"
    )

    assert result.ret == 1
    result.stdout.fnmatch_lines("*org/recorded-7b: no claim was judged on this model")
