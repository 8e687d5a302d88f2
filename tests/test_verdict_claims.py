"""Every kind of claim passes, fails and stays undecided where the planted truth says so."""

from __future__ import annotations

import pytest
from planted import (
    MULTIPLIERS,
    OTHERS,
    Plant,
    answer_mass,
    capability,
    dose_response,
    letter_part,
    level,
    null,
    plant,
    shift,
    spec_of,
    specificity,
)

from caa_harness.verdict import judge

EFFECT = Plant()
NOTHING = Plant(per_unit=0.0)
BACKWARDS = Plant(per_unit=-1.0)
SMALL = Plant(per_unit=0.07, per_unit_sd=0.3)

CASES = [
    # The planted effect of one log-odds at +1 is a shift of about 0.21.
    ("pass", shift(1.0, at_least=0.1), EFFECT),
    ("pass", shift(-1.0, at_most=-0.1), EFFECT),
    ("fail", shift(1.0, at_least=0.1), NOTHING),
    ("fail", shift(1.0, at_least=0.0), BACKWARDS),
    ("inconclusive", shift(1.0, at_least=0.2), EFFECT),
    ("pass", level(0.0, at_least=0.25, at_most=0.75), EFFECT),
    ("fail", level(0.0, at_most=0.3), EFFECT),
    ("fail", level(0.0, at_least=0.25, at_most=0.75), Plant(base=4.0)),
    ("inconclusive", level(0.0, at_least=0.48), EFFECT),
    ("pass", level(1.0, at_least=0.55), EFFECT),
    ("pass", dose_response(0.1), EFFECT),
    ("fail", dose_response(0.1), NOTHING),
    ("fail", dose_response(0.0), BACKWARDS),
    ("inconclusive", dose_response(0.175), EFFECT),
    # Rises as a whole, but falls after its peak.
    ("fail", dose_response(0.0), Plant(curve=(-2.0, -1.0, 0.0, 1.0, 0.0))),
    # Levels off: no drop, and the slope as a whole is there.
    ("pass", dose_response(0.05), Plant(curve=(-1.0, -1.0, 0.0, 1.0, 1.0), noise=0.02)),
    ("pass", capability(0.05), EFFECT),
    ("pass", capability(0.05, "accuracy"), EFFECT),
    ("fail", capability(0.05), Plant(capability_per_unit=1.0)),
    ("fail", capability(0.05, "accuracy"), Plant(capability_per_unit=2.0)),
    ("inconclusive", capability(0.05), Plant(capability_per_unit=0.25, capability_noise=0.5)),
    ("inconclusive", capability(0.05, "accuracy"), Plant(capability_per_unit=0.2)),
    ("pass", answer_mass(0.9), EFFECT),
    ("fail", answer_mass(0.9), Plant(mass=0.6, mass_sd=0.2)),
    ("inconclusive", answer_mass(0.9), Plant(mass=0.905, mass_sd=0.05)),
    ("pass", letter_part(0.25), EFFECT),
    ("fail", letter_part(0.25), Plant(per_unit=0.3, letter_per_unit=1.0)),
    ("fail", letter_part(0.25), BACKWARDS),
    ("inconclusive", letter_part(0.25), Plant(per_unit=0.6, letter_per_unit=0.2)),
    ("pass", null(1.0), EFFECT),
    ("pass", null(-1.0), EFFECT),
    ("fail", null(1.0), BACKWARDS),
    ("inconclusive", null(1.0), SMALL),
    ("pass", specificity(0.5), EFFECT),
    ("pass", specificity(0.5, -1.0), EFFECT),
    ("fail", specificity(0.5), Plant(other_per_unit=1.0)),
    ("fail", specificity(0.5), Plant(other_per_unit=-1.0)),
    ("inconclusive", specificity(0.5), Plant(other_per_unit=0.45)),
]


@pytest.mark.parametrize(
    ("outcome", "claim", "truth"),
    CASES,
    ids=[f"{claim.id}-{outcome}-{row}" for row, (outcome, claim, _) in enumerate(CASES)],
)
def test_the_verdict_is_what_the_planted_truth_says(outcome, claim, truth):
    (verdict,) = judge(spec_of(claim), plant(truth), siblings=OTHERS)

    assert verdict.outcome == outcome, verdict.reason


def test_every_kind_of_claim_is_seen_to_pass_to_fail_and_to_stay_undecided():
    seen = {(claim.kind, outcome) for outcome, claim, _ in CASES}

    kinds = {claim.kind for _, claim, _ in CASES}
    assert len(kinds) == 8
    assert seen == {(kind, o) for kind in kinds for o in ("pass", "fail", "inconclusive")}


def test_a_planted_regression_of_one_trait_goes_red_and_leaves_the_other_claims_alone():
    claims = (shift(1.0, at_least=0.1), dose_response(0.05), capability(0.05), answer_mass(0.9))
    spec = spec_of(*claims, resamples=9999)

    before = judge(spec, plant(Plant()), num_specs=7)
    after = judge(spec, plant(Plant(per_unit=0.0)), num_specs=7)

    assert [verdict.outcome for verdict in before] == ["pass"] * 4
    assert [verdict.outcome for verdict in after] == ["fail", "fail", "pass", "pass"]


def test_a_pass_says_the_number_its_interval_the_bound_and_n():
    (verdict,) = judge(spec_of(shift(1.0, at_least=0.1)), plant())

    assert verdict.reason == (
        "shift at +1 is +0.208 [+0.187, +0.230] (n = 60, 95 % interval); it must be at least 0.1"
    )


def test_undecided_says_how_many_questions_would_decide():
    (verdict,) = judge(spec_of(shift(1.0, at_least=0.19)), plant())

    assert verdict.outcome == "inconclusive"
    needed = verdict.parts[0].n_needed
    assert needed > 60
    assert verdict.reason.endswith(f"about {needed} questions would decide it")


def test_as_many_questions_as_were_said_to_decide_mostly_decide():
    (pilot,) = judge(spec_of(shift(1.0, at_least=0.19)), plant())
    (part,) = pilot.parts
    # The same distance from the bound, now from the true shift under this plant.
    bound = 0.2033 - (part.estimate.point - part.bound)

    def passes(number):
        spec = spec_of(shift(1.0, at_least=bound), num_questions=number)
        truth = Plant(num_questions=number)
        runs = [judge(spec, plant(truth, seed=100 + seed)) for seed in range(40)]
        return sum(verdict.outcome == "pass" for (verdict,) in runs)

    assert passes(60) <= 20
    assert passes(part.n_needed) >= 26


def test_letter_part_tells_letter_from_behavior():
    truth = Plant(per_unit=0.3, letter_per_unit=1.0)

    (verdict,) = judge(spec_of(letter_part(0.25)), plant(truth))

    assert "of the move is letter (letter +0.195, behavior +0.0692)" in verdict.reason


def test_a_constant_preference_for_a_letter_is_no_letter_part():
    (verdict,) = judge(spec_of(letter_part(0.1)), plant(Plant(letter=2.0)))

    assert verdict.outcome == "pass", verdict.reason


def test_a_move_to_the_other_letter_counts_as_much():
    there = judge(spec_of(letter_part(0.25)), plant(Plant(per_unit=0.3, letter_per_unit=1.0)))
    back = judge(spec_of(letter_part(0.25)), plant(Plant(per_unit=0.3, letter_per_unit=-1.5)))

    assert there[0].outcome == back[0].outcome == "fail"


def test_answer_mass_names_the_lowest_item():
    measured = plant()
    table = measured.answer_logprobs
    table[4, 7] -= 0.2  # both letters of one question at +2, in both orders

    (verdict,) = judge(spec_of(answer_mass(0.9)), measured)

    assert verdict.outcome == "pass"
    assert f"at +2 (question {measured.questions[7]})" in verdict.reason


def test_null_reports_both_the_rank_and_the_further_draw():
    (verdict,) = judge(spec_of(null(1.0)), plant())

    assert "ahead of 39 of 39 random vectors (rank p = 0.025)" in verdict.reason
    assert "ahead of 39 of 39 shuffled vectors (rank p = 0.025)" in verdict.reason
    assert {part.estimate.method for part in verdict.parts} == {"t of a further draw"}


def test_the_rank_among_null_vectors_can_forbid_a_pass_on_its_own():
    measured = plant(Plant(null_per_unit=0.02))
    # Three outliers ahead of the vector: rank p 0.1, while the rest is far behind.
    for drawn in measured.nulls:
        drawn.answer_logprobs[:3] = measured.answer_logprobs[4]

    (verdict,) = judge(spec_of(null(1.0)), measured)

    assert verdict.outcome == "inconclusive"
    assert "ahead of 36 of 39 random vectors (rank p = 0.1), more than 0.05" in verdict.reason


def test_a_step_that_drops_forbids_a_pass_even_where_it_cannot_fail_the_claim():
    # Significant among its four steps, far from significant among many claims.
    truth = Plant(curve=(-2.0, -1.0, 0.0, 1.0, 0.9), noise=0.15, per_unit_sd=0.2)
    claims = (dose_response(0.05), *(shift(1.0, at_least=0.19) for _ in range(1)))
    (alone, _) = judge(spec_of(*claims), plant(truth), num_specs=50)

    assert alone.outcome == "inconclusive"
    assert "step from +1 to +2 drops by" in alone.reason


def test_specificity_names_the_farthest_other_and_covers_every_one():
    (verdict,) = judge(spec_of(specificity(0.5)), plant(), siblings=OTHERS)

    assert len(verdict.parts) == 2 * len(OTHERS)
    assert "own move +0.208, farthest other" in verdict.reason


def test_specificity_against_a_list_leaves_the_others_out():
    claim = specificity(0.5, against=("refusal",))
    (verdict,) = judge(spec_of(claim), plant(), siblings=OTHERS)

    assert {part.name.split("'")[0].rsplit(" ", 1)[1] for part in verdict.parts} == {"refusal"}


def test_a_dose_response_over_some_multipliers_ignores_the_others():
    truth = Plant(curve=(-2.0, -1.0, 0.0, 1.0, 0.0))

    (some,) = judge(spec_of(dose_response(0.05, multipliers=(-1.0, 0.0, 1.0))), plant(truth))

    assert some.outcome == "pass"
    assert len(some.parts) == 3
    assert len(judge(spec_of(dose_response()), plant())[0].parts) == len(MULTIPLIERS)
