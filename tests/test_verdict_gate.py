"""The gate as a whole, in small: wrong verdicts are rare, planted effects are found.

``simulations/test_gate_rates.py`` asks the same with enough repetitions to tell 5 %
from 6 %; these catch what is badly wrong.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_trials import NOTHING, Rate, nothing_spec, wrong_outcomes
from planted import Plant, capability, dose_response, plant, shift, spec_of

from caa_harness.verdict import judge

REPS = 8


@pytest.fixture(scope="module")
def release_rates():
    """Seven specs with every kind of claim, where steering does nothing, eight times."""
    truth = replace(NOTHING, num_questions=30, num_items=60, others=("b",), draws=19)
    return wrong_outcomes(nothing_spec(truth, resamples=499), truth, reps=REPS)


def test_where_steering_does_nothing_hardly_any_release_passes_a_claim(release_rates):
    assert release_rates["pass"].is_at_most(0.05), release_rates


def test_where_claims_hold_to_the_letter_hardly_any_release_fails_one(release_rates):
    assert release_rates["fail"].is_at_most(0.05), release_rates


def test_a_rate_that_is_too_high_is_told_from_chance():
    assert Rate(3, 8).is_at_most(0.05) is False
    assert Rate(70, 1000).is_at_most(0.05)
    assert Rate(71, 1000).is_at_most(0.05) is False
    assert Rate(760, 1000).is_at_least(0.8) is False


def test_a_gate_without_correction_would_be_seen_to_err():
    # Seven specs judged as if each were alone, at ten times the error rate.
    truth = replace(NOTHING, num_questions=30, num_items=10, draws=1)
    claims = (shift(1.0, at_least=0.0), shift(-1.0, at_most=0.0))
    spec = spec_of(*claims, num_questions=30, confidence=0.5)

    wrong = sum(
        any(
            judge(spec, plant(truth, seed=[release, member]))[row].outcome == "pass"
            for member in range(7)
            for row in range(2)
        )
        for release in range(REPS)
    )

    assert not Rate(wrong, REPS).is_at_most(0.05)


def test_an_effect_as_large_as_the_detectable_one_is_mostly_found():
    spec = spec_of(shift(1.0, at_least=0.0))
    (pilot,) = judge(spec, plant(), num_specs=7)
    detectable = pilot.parts[0].estimate.minimum_detectable_effect
    claim = shift(1.0, at_least=0.2033 - detectable)

    passed = sum(
        judge(spec_of(claim), plant(Plant(draws=1), seed=seed), num_specs=7)[0].outcome == "pass"
        for seed in range(40)
    )

    assert Rate(passed, 40).is_at_least(0.8)


@pytest.mark.parametrize("seed", range(5))
def test_a_handful_of_questions_that_move_make_no_pass(seed):
    # 57 of 60 answers do not move at all; three jump.
    measured = plant(Plant(per_unit=0.0, per_unit_sd=0.0, noise=0.0, letter=0.0), seed=seed)
    measured.answer_logprobs[:] = measured.answer_logprobs[2]
    jump = np.array([[3.0, 0.0], [0.0, 3.0]], dtype=np.float32)
    measured.answer_logprobs[3:, 10:13] += jump - 3.5

    up, slope = judge(spec_of(shift(1.0, at_least=0.0), dose_response(0.0)), measured)

    assert up.parts[0].estimate.point > 0.01
    assert up.outcome == slope.outcome == "inconclusive"
    assert "only 3 of 60 values differ from 0" in up.reason


def test_saturated_scores_do_not_hide_a_regression():
    # Unsteered scores near 1; steering down is planted away.
    claim = shift(-1.0, at_most=-0.05)
    saturated = Plant(base=4.0, base_sd=0.5, num_questions=120, per_unit=2.0, per_unit_sd=0.3)

    (works,) = judge(spec_of(claim, num_questions=120), plant(saturated))
    (broken,) = judge(spec_of(claim, num_questions=120), plant(replace(saturated, per_unit=0.0)))

    assert works.outcome == "pass"
    assert broken.outcome == "fail"
    assert any("saturated" in note for note in works.warnings)


def test_no_lost_answer_in_two_hundred_is_a_pass_within_a_margin_and_not_without():
    measured = plant(Plant(capability_noise=0.0))

    wide, none = judge(
        spec_of(capability(0.05, "accuracy"), capability(0.001, "accuracy")), measured
    )

    assert wide.outcome == "pass"
    assert none.outcome == "inconclusive"
    assert wide.parts[0].estimate.low < 0.0 < wide.parts[0].estimate.high
