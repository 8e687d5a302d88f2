"""Reports: plain data to the bottom, whole files, and text that keeps to its width."""

from __future__ import annotations

import doctest
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caa_harness.report import document as documents
from caa_harness.report import terminal
from caa_harness.report.document import plain, report_document, write_report
from caa_harness.report.terminal import session_summary, short, verdict_block


@dataclass(frozen=True)
class Pair:
    left: object
    right: object


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.True_, True),
        (np.array([[1.0, 2.0]]), [[1.0, 2.0]]),
        ((1, "a", None, True), [1, "a", None, True]),
        (Path("a/b"), "a/b"),
        (Pair(np.int32(1), (2.0,)), {"left": 1, "right": [2.0]}),
        ({1.0: np.float64(2)}, {"1.0": 2.0}),
    ],
)
def test_values_become_plain(value, expected):
    found = plain(value)

    assert found == expected
    assert type(found) is type(expected)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
def test_numbers_that_are_not_finite_leave_a_reason(kind):
    found = plain({"low": kind(math.nan), "high": kind(math.inf), "n": 3})

    assert found == {
        "low": None,
        "low_missing": "not a number",
        "high": None,
        "high_missing": "infinite",
        "n": 3,
    }


def test_what_has_no_plain_form_is_refused():
    with pytest.raises(TypeError, match="no plain form of object"):
        plain(object())


numbers = st.floats() | st.integers() | st.booleans() | st.none() | st.text()


@given(st.recursive(numbers, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_everything_plain_survives_a_file(value):
    found = plain(value)

    assert json.loads(json.dumps(found, allow_nan=False)) == found


def estimate(point, low, high, n=60):
    return {
        "point": point,
        "low": low,
        "high": high,
        "n": n,
        "confidence": 0.95,
        "method": "bootstrap-t",
    }


def step(multiplier, shift, **changes):
    return {
        "multiplier": multiplier,
        "score": estimate(0.5, 0.4, 0.6),
        "shift": shift,
        "letter": None if shift is None else estimate(0.01, -0.02, 0.03),
        "mass_mean": 0.97,
        "capability_loss": None,
        **changes,
    }


def part(name, low, high, bound, text):
    return {
        "name": name,
        "estimate": estimate((low + high) / 2, low, high),
        "bound": bound,
        "bound_text": f"{bound:g}",
        "direction": "at_least",
        "text": text,
        "n_needed": None,
        "is_required": True,
    }


def claim(name, kind, outcome, *parts, **changes):
    return {
        "id": name,
        "type": kind,
        "file": "specs/candor.behavior.json",
        "line": 12,
        "outcome": outcome,
        "reason": f"{name} is as it is",
        "parts": list(parts),
        "p_pass": 0.001,
        "p_fail": 1.0,
        "alpha": 0.025,
        "warnings": [],
        **changes,
    }


def behavior(name="candor", *, steps=None, claims=None, **changes):
    steps = steps or [
        step(-1.0, estimate(-0.2, -0.25, -0.15)),
        step(0.0, None),
        step(1.0, estimate(0.2, 0.15, 0.25)),
    ]
    claims = claims or [
        claim("shift[m+1]", "shift", "pass", part("shift at +1", 0.15, 0.25, 0.1, "+0.200 [...]"))
    ]
    return {
        "behavior": name,
        "file": "specs/candor.behavior.json",
        "layer": 16,
        "spec_digest": "ab" * 32,
        "num_held_out": 60,
        "model": {
            "name": "org/model-7b",
            "architecture": "LlamaForCausalLM",
            "num_layers": 32,
            "dtype": "bfloat16",
            "device": "cuda:0",
            "template": "llama-2",
            "weights_digest": "0123456789abcdef",
        },
        "summary": {"multipliers": steps, "warnings": []},
        "claims": claims,
        "notes": [],
        **changes,
    }


def session(*behaviors, judged=True):
    cases = [
        {"case": f"{one['file']}::{each['id']}", "outcome": "passed", "judged": judged}
        for one in behaviors
        for each in one["claims"]
    ]
    return report_document(
        behaviors={one["file"]: one for one in behaviors},
        cases=cases,
        unread=[],
        deselected=[],
        problems=[],
        options={"model": "org/model-7b", "record": Path("there")},
        inconclusive="fail",
        started=datetime(2026, 1, 2, tzinfo=UTC),
        exit_status=0,
    )


def test_a_report_is_complete_when_every_claim_was_judged():
    found = session(behavior())

    assert found["complete"] is True
    assert found["counts"]["pass"] == 1
    assert found["options"] == {"model": "org/model-7b", "record": "there", "inconclusive": "fail"}
    json.dumps(found, allow_nan=False)


def test_a_report_without_a_verdict_on_each_claim_is_not():
    one = behavior()

    found = session(one, judged=False)

    assert found["complete"] is False
    assert found["incomplete_because"] == ["specs/candor.behavior.json::shift[m+1] was not judged"]
    assert found["counts"] == {"pass": 0, "fail": 0, "inconclusive": 0, "not_judged": 1}


def test_a_report_is_written_whole(tmp_path):
    found = session(behavior())

    write_report(found, tmp_path / "new" / "report.json")

    written = (tmp_path / "new" / "report.json").read_text(encoding="utf-8")
    assert json.loads(written) == found
    assert written.isascii()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "report.json"
    write_report({"format": "before"}, path)

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report({"point": math.nan}, path)

    assert json.loads(path.read_text(encoding="utf-8")) == {"format": "before"}
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_the_table_has_a_row_for_each_behavior():
    lines = session_summary(session(behavior())).splitlines()

    assert lines[:5] == [
        "behavior       unsteered shift at -1 shift at +1 capability outcome",
        "-------------------------------------------------------------------",
        "candor         .50       -.20        +.20        -          pass",
        "layer 16, n 60 [.40,.60] [-.25,-.15] [+.15,+.25]            1 of 1",
        "               mass .97  letter +.01 letter +.01",
    ]
    assert max(map(len, lines)) <= terminal.WIDTH


def test_capability_shows_the_part_nearest_to_its_bound():
    parts = (
        part("capability at -1", -0.01, 0.02, -0.05, "x"),
        part("capability at +1", -0.04996, 0.01, -0.05, "x"),
    )
    one = behavior(claims=[claim("capability[m-1,m+1]", "capability", "pass", *parts)])

    text = session_summary(session(one))

    # Three decimals would put the lower end on the bound.
    assert "[-.04996,+.01000]" in text
    assert "bound -.05" in text


def test_a_loss_that_nobody_bounded_is_shown_as_such():
    one = behavior(
        steps=[
            step(0.0, None),
            step(1.0, estimate(0.2, 0.1, 0.3), capability_loss=estimate(-0.1, -0.2, 0.0)),
        ]
    )

    text = session_summary(session(one))

    assert "[-.200,+.000]" in text
    assert "no bound" in text


def test_other_multipliers_are_named_in_their_cells():
    one = behavior(steps=[step(0.0, None), step(0.5, estimate(0.2, 0.15, 0.25))])

    lines = session_summary(session(one)).splitlines()

    assert "+.20 (+0.5)" in lines[2]
    assert lines[2].split()[2] == "-"


def test_missing_numbers_are_dashes():
    nothing = estimate(None, None, None)
    steps = [
        step(-1.0, nothing),
        step(0.0, None, score=nothing, mass_mean=None),
        step(1.0, nothing),
    ]

    lines = session_summary(session(behavior(steps=steps))).splitlines()

    assert lines[2].split() == ["candor", "-", "-", "-", "-", "pass"]
    assert "[-,-]" in lines[3]


@pytest.mark.parametrize("outcomes", [["pass", "fail", "inconclusive"], ["inconclusive", "pass"]])
def test_the_worst_claim_names_the_behaviors_outcome(outcomes):
    claims = [claim(f"shift[m+{i}]", "shift", one) for i, one in enumerate(outcomes)]

    lines = session_summary(session(behavior(claims=claims))).splitlines()

    assert lines[2].endswith(" fail" if "fail" in outcomes else " inconclusive")
    assert lines[3].endswith(f" 1 of {len(outcomes)}")


def test_notes_are_few_and_the_rest_is_counted():
    one = behavior(notes=[f"note number {i}" for i in range(14)])

    text = session_summary(session(one))

    assert text.count("note: candor: note number") == terminal.MAX_NOTES
    assert "note: 4 more in the JSON report" in text


def test_colour_changes_no_word():
    found = session(behavior())

    plain_text, coloured = session_summary(found), session_summary(found, color=True)

    assert "\x1b[32mpass" in coloured
    stripped = coloured
    for code in ("\x1b[0m", "\x1b[32m", "\x1b[1m", "\x1b[39m", "\x1b[22m"):
        stripped = stripped.replace(code, "")
    words = [" ".join(line.split()) for line in stripped.splitlines()]
    assert words == [" ".join(line.split()) for line in plain_text.splitlines()]


def test_markup_in_names_is_text():
    one = behavior("[bold]x[/bold]")

    assert "[bold]x[/bold]" in session_summary(session(one))


def test_a_block_says_where_what_and_at_which_level():
    one = behavior()
    refuted = claim(
        "shift[m+1]",
        "shift",
        "fail",
        part("shift at +1", 0.01, 0.05, 0.1, "+0.030 [+0.010, +0.050]"),
        warnings=["46% of the questions move the wrong way"],
    )

    lines = verdict_block(one, refuted).splitlines()

    assert lines[0] == "specs/candor.behavior.json:12: shift[m+1]: fail"
    assert lines[1] == "shift[m+1] is as it is"
    assert any(line.startswith("shift at +1  +0.030 [+0.010, +0.050]  > 0.1") for line in lines)
    assert lines[-1] == "warning: 46% of the questions move the wrong way"
    assert "p(pass) 0.001, p(fail) 1; 0.025 or less decides" in "\n".join(lines)
    assert max(map(len, lines)) <= terminal.WIDTH


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "text"),
    [
        (0.5, 2, "", ".50"),
        (-0.5, 2, "+", "-.50"),
        (0.0, 2, "+", "+.00"),
        (0.999, 2, "", "1.00"),
        (-1.0, 2, "+", "-1.00"),
        (12.25, 1, "+", "+12.2"),
        (None, 2, "", "-"),
    ],
)
def test_short_numbers(value, decimals, sign, text):
    assert short(value, decimals, sign=sign) == text


def test_documents_import_no_numpy():
    script = "import sys, caa_harness.report.document as d; print('numpy' in sys.modules)"

    shown, control = (
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        for text in (script, f"import numpy; {script}")
    )

    assert (shown.stdout.strip(), control.stdout.strip()) == ("False", "True")


@pytest.mark.parametrize("module", [documents, terminal])
def test_the_examples_run(module):
    found = doctest.testmod(module)

    assert found.attempted > 0
    assert found.failed == 0
