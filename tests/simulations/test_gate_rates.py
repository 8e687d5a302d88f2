"""The whole gate, a thousand releases: how often it errs, how often it finds what is there.

A release is seven specs of one family with every kind of claim.  Minutes, not
seconds: run with ``-m slow``.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from gate_trials import (
    NOTHING,
    NUM_SPECS,
    SKEWED,
    Rate,
    exact_values,
    nothing_spec,
    on_the_bound_spec,
    wrong_outcomes,
)
from planted import Plant, plant, shift, spec_of

from caa_harness.verdict import judge

pytestmark = pytest.mark.slow

REPS = 1000


@pytest.mark.parametrize("num_questions", [20, 60])
def test_where_steering_does_nothing_few_releases_pass_or_fail_a_claim(num_questions):
    truth = replace(NOTHING, num_questions=num_questions)

    rates = wrong_outcomes(nothing_spec(truth), truth, reps=REPS, seed=1)

    assert rates["pass"].is_at_most(0.05), rates
    assert rates["fail"].is_at_most(0.05), rates


def test_clustered_questions_are_not_counted_as_independent():
    # The null vectors know nothing of the clusters, so no claim compares with them here.
    truth = replace(NOTHING, cluster_size=5, cluster_sd=0.4)
    spec = nothing_spec(truth, leave_out=("null",))

    rates = wrong_outcomes(spec, truth, reps=REPS, seed=2)

    assert rates["pass"].is_at_most(0.05), rates
    assert rates["fail"].is_at_most(0.05), rates


def test_skewed_answers_exactly_on_every_bound_seldom_pass_or_fail():
    rates = wrong_outcomes(on_the_bound_spec(SKEWED), SKEWED, reps=REPS, seed=3)

    assert rates["pass"].is_at_most(0.05), rates
    assert rates["fail"].is_at_most(0.05), rates


@pytest.mark.parametrize("num_questions", [20, 60, 200])
def test_the_detectable_effect_that_is_printed_is_found_in_four_of_five_releases(num_questions):
    truth = Plant(num_questions=num_questions, num_items=5, draws=1)
    exact = exact_values(truth)

    def judged(bound, rep):
        claim = shift(1.0, at_least=bound)
        spec = spec_of(claim, num_questions=num_questions, resamples=9999)
        (verdict,) = judge(spec, plant(truth, seed=[4, rep]), num_specs=NUM_SPECS)
        return verdict

    printed = [
        judged(0.0, rep).parts[0].estimate.minimum_detectable_effect
        for rep in range(REPS, REPS + 50)
    ]
    bound = exact["up"] - statistics.median(printed)

    passed = sum(judged(bound, rep).outcome == "pass" for rep in range(REPS))

    assert Rate(passed, REPS).is_at_least(0.8), f"{passed} of {REPS}"
