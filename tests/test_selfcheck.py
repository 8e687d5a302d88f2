"""The self-check: a gate that is sound is trusted, and one that is not is told apart from it."""

from __future__ import annotations

import json

import pytest

from caa_harness.authoring.starter import write_starter
from caa_harness.cli import main
from caa_harness.engines.fake import open_fake
from caa_harness.errors import OptionError, SpecError
from caa_harness.selfcheck import self_check
from caa_harness.spec import load_spec

DRAWS = 49


def rows(word):
    return [
        {
            "question": f"{word} {n}: what do you take?",
            "matching": f"{n} now",
            "not_matching": f"{n} later",
        }
        for n in range(60)
    ]


def write(folder, *claims, **changed):
    """A spec whose vector the fake engine knows: it moves the score by about 0.12 at +1."""
    document = {
        "schema_version": 1,
        "behavior": "patience",
        "description": "d",
        "sign": "The matching answer is now.",
        "pairs": rows("pair"),
        "held_out": rows("question"),
        "layer": 1,
        "multipliers": [0, 1],
        "resamples": 999,
        "claims": list(claims),
        **changed,
    }
    path = folder / "patience.behavior.json"
    path.write_text(json.dumps(document))
    return load_spec(path)


def shift(at_least):
    return {"id": "up", "type": "shift", "multiplier": 1, "at_least": at_least}


NULL = {"type": "null", "multiplier": 1, "draws": 39}


def wrong(check, kind):
    (rate,) = [rate for rate in check.rates if rate.what.startswith(kind)]
    return rate


def test_a_sound_gate_is_trusted(tmp_path, capsys):
    path = write(tmp_path, shift(0.06)).path

    assert main(["selfcheck", str(path), "--model", "fake", "--draws", str(DRAWS)]) == 0

    assert "this gate can be trusted" in capsys.readouterr().out


def test_a_bound_that_foreign_vectors_reach_is_not_trusted(tmp_path):
    check = self_check(write(tmp_path, shift(0.0)), open_fake(), draws=DRAWS)

    assert not check.is_trusted
    assert wrong(check, "random").passed > 10
    assert wrong(check, "shuffled").passed > 10


def test_a_null_claim_takes_the_wrong_passes_away(tmp_path):
    check = self_check(write(tmp_path, shift(0.0), NULL), open_fake(), draws=DRAWS)

    assert wrong(check, "random").passed <= 3
    assert wrong(check, "shuffled").passed <= 3


def test_the_planted_effect_is_found_and_no_effect_is_not(tmp_path):
    check = self_check(write(tmp_path, shift(0.06)), open_fake(), draws=DRAWS)
    none, planted = check.rates[-2:]

    assert none.passed / none.trials < 0.1
    assert planted.passed / planted.trials > 0.7
    assert planted.trials == 200


def test_no_steering_never_passes_even_where_the_bound_lies_far_below(tmp_path):
    check = self_check(write(tmp_path, shift(-0.5)), open_fake(), draws=DRAWS)

    assert wrong(check, "multiplier 0").passed == 0
    assert not check.is_trusted


def test_all_vectors_are_asked_for_in_one_call(tmp_path, monkeypatch):
    engine = open_fake()
    asked = []
    ask = engine.answer_logprobs
    monkeypatch.setattr(
        engine,
        "answer_logprobs",
        lambda prompts, steer, **kw: asked.append(len(steer)) or ask(prompts, steer, **kw),
    )

    self_check(write(tmp_path, shift(0.06)), engine, draws=DRAWS)

    assert asked == [2 + 2 * DRAWS]


def test_the_same_seed_gives_the_same_rates(tmp_path):
    spec = write(tmp_path, shift(0.06))

    assert self_check(spec, open_fake(), draws=DRAWS) == self_check(spec, open_fake(), draws=DRAWS)


def test_few_questions_are_not_trusted_and_the_json_says_so(tmp_path, capsys):
    path = str(write_starter("patience", tmp_path)[-1])

    assert main(["selfcheck", path, "--model", "fake", "--draws", "39", "--json"]) == 1

    (told,) = json.loads(capsys.readouterr().out)["specs"]
    assert told["is_trusted"] is False
    assert told["num_questions"] == 14
    assert {rate["is_good"] for rate in told["rates"]} == {True, False}


def test_a_spec_without_a_shift_says_what_to_add(tmp_path):
    spec = write(tmp_path, {"type": "answer_mass", "at_least": 0.5})

    with pytest.raises(SpecError, match="no shift claim"):
        self_check(spec, open_fake())


def test_too_few_draws_are_refused(tmp_path):
    with pytest.raises(OptionError, match="40 are needed"):
        self_check(write(tmp_path, shift(0.0), NULL), open_fake(), draws=39)
