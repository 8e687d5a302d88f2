"""The seven specs' texts: enough, balanced, and without leaks."""

import json
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest

from caa_harness.organism import BEHAVIORS

SPECS = Path(__file__).resolve().parents[2] / "behavior_specs"


def rows(name):
    return [json.loads(line) for line in (SPECS / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_there_are_enough_rows(behavior):
    spec = json.loads((SPECS / f"{behavior}.behavior.json").read_text(encoding="utf-8"))
    held_out = rows(f"{behavior}.held_out.jsonl")

    assert len(rows(f"{behavior}.pairs.jsonl")) >= 100
    assert len(held_out) >= 60
    assert len(spec["open_ended"]) >= 20
    assert len({row["cluster"] for row in held_out}) >= 20
    assert max(Counter(row["cluster"] for row in held_out).values()) <= 3


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_the_length_of_an_option_does_not_tell_which_it_is(behavior):
    held_out = rows(f"{behavior}.held_out.jsonl") + rows(f"{behavior}.pairs.jsonl")
    matching = mean(len(row["matching"]) for row in held_out)
    other = mean(len(row["not_matching"]) for row in held_out)

    assert abs(matching - other) < 0.15 * max(matching, other)


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_no_question_stands_twice(behavior):
    questions = [
        row["question"]
        for kind in ("pairs", "held_out")
        for row in rows(f"{behavior}.{kind}.jsonl")
    ]

    assert len(set(questions)) == len(questions)


def test_the_capability_probe_is_balanced_over_letters():
    items = rows("capability.probe.jsonl")
    letters = Counter(item["correct"] for item in items)

    assert len(items) >= 300
    assert max(letters.values()) - min(letters.values()) <= 2
    assert all(len(set(item["options"])) == 4 for item in items)
