"""Two reports beside each other: what is worse, what else changed, what cannot be compared."""

from __future__ import annotations

import json

import pytest
from report_documents import behavior, claim, estimate, session, step

from caa_harness.cli import main
from caa_harness.report.compare import compare

CASE = "specs/candor.behavior.json::shift_up"


def outcome(word, *, name="shift_up", **changes):
    return session(behavior(claims=[claim(name, word)], **changes))


@pytest.fixture
def saved(tmp_path):
    def save(name, document):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return str(path)

    return save


@pytest.mark.parametrize(
    ("before", "after", "is_worse"),
    [
        ("pass", "pass", False),
        ("fail", "fail", False),
        ("pass", "inconclusive", True),
        ("pass", "fail", True),
        ("inconclusive", "fail", True),
        ("fail", "inconclusive", False),
        ("inconclusive", "pass", False),
    ],
)
def test_a_claim_is_worse_when_it_is_less_supported(before, after, is_worse):
    found = compare(outcome(before), outcome(after))

    assert found.is_worse is is_worse
    assert found.num_same == (before == after)
    if before != after:
        word = "worse" if is_worse else "changed"
        assert f"{word}: candor shift_up: {before} -> {after}" in found.text


def test_a_claim_that_is_gone_is_worse():
    found = compare(outcome("pass"), outcome("pass", name="another"))

    assert found.is_worse
    assert "candor shift_up: pass -> gone" in found.text
    assert "changed: candor another: no such claim -> pass" in found.text


def test_a_behavior_that_is_gone_is_worse():
    found = compare(session(behavior("candor"), behavior("flattery")), session(behavior("candor")))

    assert found.is_worse
    assert "flattery shift_up: pass -> gone" in found.text
    assert "after  behavior not in this report" in found.text


@pytest.mark.parametrize(("word", "is_worse"), [("pass", False), ("fail", True)])
def test_a_new_claim_is_worse_unless_it_is_shown(word, is_worse):
    later = session(behavior(claims=[claim("shift_up"), claim("new", word)]))

    assert compare(outcome("pass"), later).is_worse is is_worse


def test_an_incomplete_later_report_is_worse_whatever_its_numbers_say():
    later = session(behavior(), left_out=[CASE])

    found = compare(outcome("pass"), later)

    assert found.is_worse
    assert "pass -> not judged" in found.text
    assert "the later session left its case out" in found.text


def test_shifts_stand_beside_each_other_with_their_own_intervals():
    steps = [step(-1.0), step(0.0), step(1.0, shift=estimate(0.3, 0.28, 0.33, num_clusters=20))]

    text = compare(session(behavior()), session(behavior(steps=steps))).text

    assert "both   -0.200 [-0.250, -0.150], n = 60, 95 % interval" in text
    assert "before +0.200 [+0.150, +0.250], n = 60, 95 % interval" in text
    assert "after  +0.300 [+0.280, +0.330], n = 60, 20 clusters, 95 % interval" in text


def test_a_shift_that_is_missing_is_said_to_be():
    steps = [step(-1.0), step(0.0), step(1.0, shift=estimate(None, None, None, n=0))]

    text = compare(session(behavior()), session(behavior(steps=steps))).text

    assert "after  not measured" in text


def test_what_the_numbers_were_made_with_is_listed_where_it_differs():
    later = behavior(
        layer=17, claims=[claim(claim={"multiplier": 1.0, "at_least": 0.2, "at_most": None})]
    )
    later["model"] = {**later["model"], "dtype": "float32"}

    text = compare(session(behavior()), session(later)).text

    assert "layer 16 -> 17: candor" in text
    assert "model dtype bfloat16 -> float32: candor" in text
    assert "claims ask for something else: candor shift_up" in text
    assert "made with something else" not in compare(outcome("pass"), outcome("pass")).text


@pytest.mark.parametrize(("after", "status"), [("pass", 0), ("fail", 1)])
def test_the_verb_ends_as_it_says(saved, capsys, after, status):
    before = saved("before", outcome("pass"))

    assert main(["compare", before, saved("after", outcome(after))]) == status

    assert capsys.readouterr().out.startswith("verdicts: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": "caa-report/2"}', "the format is 'caa-report/2', not 'caa-report/1'"),
        ("[]", "no format is named"),
        ("{", "not a whole JSON file"),
        ('{"format": "caa-report/1"}', "/complete: the key is missing"),
        ('{"format": "caa-report/1", "format": "caa-report/1"}', "a key stands twice"),
        ('{"format": NaN}', "NaN is not JSON"),
    ],
)
def test_other_files_are_refused(saved, tmp_path, capsys, content, words):
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")

    assert main(["compare", saved("before", outcome("pass")), str(path)]) == 2

    told = capsys.readouterr().err
    assert words in told
    assert "other.json" in told
    assert "try: " in told


def test_a_file_that_is_not_there_is_refused(saved, capsys):
    assert main(["compare", saved("before", outcome("pass")), "nowhere.json"]) == 2
    assert "nowhere.json: the report cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d["behaviors"][0].pop("layer"), "/behaviors/0/layer"),
        (lambda d: d["behaviors"][0].update(notes=[1]), "/behaviors/0/notes/0"),
        (lambda d: d["behaviors"][0]["claims"][0].update(outcome="fine"), "/claims/0/outcome"),
        (lambda d: d["behaviors"][0]["detail"].pop("wrong_way"), "/detail/wrong_way"),
        (lambda d: d["counts"].update({"pass": True}), "/counts/pass"),
        (lambda d: d.update(cases={}), "/cases"),
        (
            lambda d: d["behaviors"][0]["claims"][0]["parts"][0].update(direction="up"),
            "/parts/0/direction",
        ),
    ],
)
def test_a_damaged_report_is_refused_with_its_place(saved, capsys, change, where):
    damaged = outcome("pass")
    change(damaged)

    assert main(["compare", saved("before", outcome("pass")), saved("after", damaged)]) == 2

    assert where in capsys.readouterr().err
