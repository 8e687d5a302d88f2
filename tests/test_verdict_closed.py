"""Whatever is missing, damaged or too thin never passes: undecided with the reason, or refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from planted import (
    OTHERS,
    VECTOR,
    Plant,
    answer_mass,
    answers,
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

from caa_harness.claims import Case, Requirement
from caa_harness.errors import MeasurementError
from caa_harness.spec import CapabilityItem
from caa_harness.statistics import paired_mean
from caa_harness.verdict import judge, overall, summarise

HELD_OUT = (
    shift(1.0, at_least=0.1),
    level(1.0, at_least=0.5),
    dose_response(0.0),
    letter_part(0.25),
    null(1.0),
    specificity(0.5),
    answer_mass(0.9),
)
ALL = (*HELD_OUT, capability(0.05))


def only(claim, measured, **changed):
    """Judge one claim of a spec that has no other."""
    changed.setdefault("num_questions", len(measured.questions))
    (verdict,) = judge(spec_of(claim, **changed), measured, siblings=OTHERS)
    return verdict


def of(claims):
    return pytest.mark.parametrize("claim", claims, ids=[claim.id for claim in claims])


@of(ALL)
def test_all_of_it_passes_where_nothing_is_wrong(claim):
    assert only(claim, plant()).outcome == "pass"


@of(HELD_OUT)
def test_more_than_a_tenth_unscored_decides_nothing(claim):
    measured = plant()
    measured.answer_logprobs[:, :7] = np.nan

    verdict = only(claim, measured)

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "7 of 60 questions have no score, more than 10%"
    assert verdict.parts == ()
    assert verdict.p_pass == verdict.p_fail == 1.0


@of(HELD_OUT)
def test_unscored_questions_cannot_fail_a_claim_either(claim):
    measured = plant(Plant(per_unit=-1.0, mass=0.3))
    measured.answer_logprobs[:, :7] = np.nan

    assert only(claim, measured).outcome == "inconclusive"


@of([claim for claim in HELD_OUT if claim.kind != "answer_mass"])
def test_a_few_unscored_questions_are_left_out_and_said(claim):
    measured = plant()
    measured.answer_logprobs[3, :2, 0, 1] = np.nan

    verdict = only(claim, measured)

    assert verdict.outcome == "pass", verdict.reason
    assert "2 of 60 questions have no score and are left out" in verdict.warnings


def test_one_missing_mass_forbids_the_pass_and_not_the_fail():
    good, bad = plant(), plant(Plant(mass=0.5, mass_sd=0.1))
    for measured in (good, bad):
        measured.answer_logprobs[4, 5] = np.nan

    passing, failing = only(answer_mass(0.9), good), only(answer_mass(0.9), bad)

    assert passing.outcome == "inconclusive"
    assert "1 answers have no mass" in passing.reason
    assert failing.outcome == "fail"


@of(HELD_OUT)
@pytest.mark.parametrize("number", [4, 1])
def test_fewer_than_five_questions_decide_nothing(claim, number):
    verdict = only(claim, plant(Plant(num_questions=number)))

    assert verdict.outcome == "inconclusive"
    assert f"{number} independent questions are fewer than 5" in verdict.reason


@of([shift(1.0, at_least=0.0), level(1.0, at_least=0.01)])
def test_five_questions_cannot_reach_the_level_and_say_so(claim):
    verdict = only(claim, plant(Plant(num_questions=5, per_unit_sd=0.1)))

    assert verdict.outcome == "inconclusive"
    assert "32 sign patterns of 5 values cannot resolve" in verdict.reason


def test_five_clusters_of_twenty_are_five_and_not_a_hundred():
    truth = Plant(num_questions=80, cluster_size=20)

    verdict = only(shift(1.0, at_least=0.1), plant(truth))

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "4 independent questions are fewer than 5: nothing to judge"


def test_clusters_widen_the_interval():
    truth = Plant(num_questions=60, cluster_size=5, cluster_sd=1.0)
    measured = plant(truth)
    claim = shift(1.0, at_least=0.05)

    (clustered,) = only(claim, measured).parts
    (naive,) = only(claim, replace(measured, clusters=(None,) * 60)).parts

    assert clustered.estimate.num_clusters == 12
    assert clustered.estimate.high - clustered.estimate.low > 1.5 * (
        naive.estimate.high - naive.estimate.low
    )


@of([shift(1.0, at_least=0.1), null(1.0), letter_part(0.25), dose_response(0.0)])
def test_a_multiplier_that_was_not_measured_decides_nothing(claim):
    measured = plant()
    kept = [0, 1, 2, 4]
    thinned = replace(
        measured,
        multipliers=tuple(measured.multipliers[row] for row in kept),
        answer_logprobs=measured.answer_logprobs[kept],
    )

    verdict = only(claim, thinned)

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "multiplier +1 was not measured"


def test_no_unsteered_answers_decide_nothing():
    measured = plant()
    kept = [0, 1, 3, 4]
    thinned = replace(
        measured,
        multipliers=tuple(measured.multipliers[row] for row in kept),
        answer_logprobs=measured.answer_logprobs[kept],
    )

    for claim in (shift(1.0, at_least=0.1), level(1.0, at_least=0.1), specificity(0.5)):
        verdict = only(claim, thinned)
        assert verdict.outcome == "inconclusive"
        assert verdict.reason == "multiplier +0 was not measured"


def test_no_probe_no_capability():
    verdict = only(capability(0.05), replace(plant(), capability=None))

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "the capability probe was not measured"


@pytest.mark.parametrize("metric", ["probability", "accuracy"])
def test_unscored_probe_items_decide_nothing(metric):
    measured = plant()
    measured.capability.option_logprobs[2, :21] = np.nan

    verdict = only(capability(0.05, metric), measured)

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "21 of 200 probe items have no score, more than 10%"


def test_a_probe_at_other_multipliers_decides_nothing():
    verdict = only(capability(0.05, multipliers=(-2.0, 1.0)), plant())

    assert verdict.reason == "multiplier -2 was not measured"
    assert verdict.outcome == "inconclusive"


@pytest.mark.parametrize("kind", ["random", "shuffled"])
def test_a_kind_of_null_vector_that_is_missing_decides_nothing(kind):
    measured = plant()
    nulls = tuple(drawn for drawn in measured.nulls if drawn.kind != kind)

    verdict = only(null(1.0), replace(measured, nulls=nulls))

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == f"0 {kind} vectors were measured at +1, the claim asks for 39"


def test_fewer_null_vectors_than_the_claim_asks_for_decide_nothing():
    verdict = only(null(1.0, draws=40), plant())

    assert verdict.outcome == "inconclusive"
    assert "39 random vectors were measured at +1, the claim asks for 40" in verdict.reason


def test_null_answers_without_scores_decide_nothing():
    measured = plant()
    measured.nulls[1].answer_logprobs[5, :7] = np.nan

    assert only(null(1.0), measured).reason == "7 of 60 questions have no score, more than 10%"


def test_null_vectors_that_all_do_the_same_do_not_make_a_pass():
    measured = plant()
    for drawn in measured.nulls:
        drawn.answer_logprobs[:] = measured.answer_logprobs[2]

    verdict = only(null(1.0), measured)

    assert verdict.outcome == "inconclusive"
    assert "all 39 draws from the null are 0" in verdict.reason


def test_another_behavior_that_was_not_asked_decides_nothing():
    measured = plant()

    verdict = only(specificity(0.5), replace(measured, others=measured.others[:1]))

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "coordination's questions were not asked under this vector"


def test_no_other_behavior_at_all_decides_nothing():
    (verdict,) = judge(spec_of(specificity(0.5)), plant(), siblings=())

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "there is no other behavior to compare with"


@of([null(0.0), specificity(0.5, 0.0)])
def test_a_claim_about_steering_by_nothing_decides_nothing(claim):
    verdict = only(claim, plant())

    assert verdict.outcome == "inconclusive"
    assert "multiplier 0" in verdict.reason


def test_another_behavior_with_too_few_scored_questions_decides_nothing():
    measured = plant()
    measured.others[1].answer_logprobs[:, :7] = np.nan

    verdict = only(specificity(0.5), measured)

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "7 of 60 coordination questions have no score, more than 10%"


def test_paper_scoring_has_no_letter_part():
    measured = replace(plant(), scoring="paper")
    measured.answer_logprobs[:, ::2, 0] = np.nan
    measured.answer_logprobs[:, 1::2, 1] = np.nan
    spec = spec_of(letter_part(0.25), shift(1.0, at_least=0.05), scoring="paper")

    letter, moved = judge(spec, measured)

    assert letter.outcome == "inconclusive"
    assert letter.reason == "60 of 60 questions have no score, more than 10%"
    assert moved.outcome == "pass", moved.reason


@of([shift(1.0, at_least=0.05), level(1.0, at_least=0.3), dose_response(0.01), letter_part(0.25)])
def test_answers_that_are_all_alike_do_not_make_a_pass(claim):
    same = Plant(base_sd=0.0, per_unit_sd=0.0, noise=0.0, num_questions=400)

    verdict = only(claim, plant(same))

    assert verdict.outcome == "inconclusive"
    assert "all 400 values are" in verdict.reason


def test_uniform_data_are_no_zero_width_certainty_for_mass_and_capability():
    same = Plant(mass_sd=0.0, num_questions=400, capability_noise=0.0)

    mass = only(answer_mass(0.9), plant(same))
    probe = only(capability(0.05, "accuracy"), plant(same))

    for verdict in (mass, probe):
        assert verdict.outcome == "pass"
        assert all(part.estimate.high > part.estimate.low for part in verdict.parts)
    assert "all 400 values are" in mass.warnings[0]


def test_two_methods_must_agree_where_the_sample_is_small():
    # Right-skewed moves: the bootstrap's lower end lies above Student's t.
    rng = np.random.default_rng(4)
    moves = 0.1 * rng.standard_exponential(14)
    inference = paired_mean(moves, seed=1, num_resamples=9999)
    bootstrap = inference.estimate(0.95)
    student = inference.cross_check.estimate(0.95)
    bound = (bootstrap.low + student.low) / 2
    requirement = Requirement(name="moves", inference=inference, bound=bound, direction="at_least")

    assert min(bootstrap.low, student.low) < bound < max(bootstrap.low, student.low)
    assert requirement.p_holds > 0.025
    assert requirement.estimate(0.025).low < bound
    assert requirement.estimate(0.025).method == "wider of bootstrap-t and t"


class Broken:
    """An inference that has lost its numbers."""

    cross_check = None

    def p_greater(self, bound):
        return math.nan

    p_less = p_greater


def test_a_p_that_is_no_number_counts_as_one():
    requirement = Requirement(name="x", inference=Broken(), bound=0.0, direction="at_least")

    assert requirement.p_holds == requirement.p_violated == 1.0
    assert Case().requirements == ()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"spec_digest": "other"}, "measurements of another spec digest other, not planted"),
        ({"behavior": "refusal"}, "measurements of another behavior refusal, not sycophancy"),
        ({"scoring": "paper"}, "measurements of another scoring paper, not both_orders"),
        ({"vector": replace(VECTOR, layer=3)}, "measurements of another layer 3, not 4"),
        ({"questions": ("x",) * 60}, "measurements of another set of held-out questions"),
        ({"clusters": (None,) * 59}, "clusters of shape (5, 60, 2, 2), not (5, 59, 2, 2)"),
        ({"multipliers": (-1.0, 0.0, 1.0)}, "answers of shape (5, 60, 2, 2), not (3, 60, 2, 2)"),
    ],
)
def test_measurements_made_for_something_else_are_refused(changed, words):
    with pytest.raises(MeasurementError) as error:
        judge(spec_of(shift(1.0, at_least=0.1)), replace(plant(), **changed))

    assert words in str(error.value)
    assert "try: measure again" in str(error.value)


def test_a_layer_that_was_asked_for_is_no_mismatch():
    measured = replace(plant(), vector=replace(VECTOR, layer=3))

    (verdict,) = judge(spec_of(shift(1.0, at_least=0.1)), measured, layer=3)

    assert verdict.outcome == "pass"
    with pytest.raises(MeasurementError, match="another layer 4, not 3"):
        judge(spec_of(shift(1.0, at_least=0.1)), plant(), layer=3)


@pytest.mark.parametrize("part", ["answers", "nulls", "others"])
def test_numbers_that_are_no_log_probabilities_are_refused(part):
    measured = plant()
    table = {
        "answers": measured.answer_logprobs,
        "nulls": measured.nulls[2].answer_logprobs,
        "others": measured.others[1].answer_logprobs,
    }[part]
    table[1, 2, 0, 1] = 0.5

    with pytest.raises(MeasurementError, match="no log-probabilities: some are above 0"):
        judge(spec_of(shift(1.0, at_least=0.1)), measured)


def test_tables_of_another_size_are_refused():
    measured = plant()
    short = replace(measured.nulls[0], answer_logprobs=measured.nulls[0].answer_logprobs[:, :9])

    with pytest.raises(MeasurementError, match="random nulls of shape"):
        judge(spec_of(shift(1.0, at_least=0.1)), replace(measured, nulls=(short,)))


def test_another_probe_is_refused():
    items = (CapabilityItem(question="1 + 1?", options=("1", "2", "3", "4"), correct=1),)

    with pytest.raises(MeasurementError, match="another capability probe"):
        judge(spec_of(capability(), capability=items), plant())


def test_a_letter_of_probability_zero_is_a_score_and_two_are_none():
    measured = plant()
    measured.answer_logprobs[3, 0, :, 1] = -np.inf  # orders disagree without bound
    measured.answer_logprobs[3, 1, 0, 1] = -np.inf
    measured.answer_logprobs[3, 2] = -np.inf

    verdict = only(shift(1.0, at_least=0.1), measured)

    assert verdict.outcome == "pass"
    assert verdict.parts[0].estimate.n == 58
    assert "2 of 60 questions have no score and are left out" in verdict.warnings


def test_saturated_scores_are_said():
    verdict = only(shift(1.0, at_least=0.0), plant(Plant(base=5.0, base_sd=0.3)))

    assert any("saturated, shifts are understated" in note for note in verdict.warnings)


def test_a_large_wrong_way_share_is_said():
    truth = Plant(per_unit=0.3, per_unit_sd=1.5, num_questions=200)

    verdict = only(shift(1.0, at_least=-0.1), plant(truth))

    assert any(note.endswith("of the questions move the wrong way") for note in verdict.warnings)
    assert not only(shift(1.0, at_least=0.1), plant()).warnings


def test_a_close_call_is_said():
    low = only(shift(1.0, at_least=0.1), plant()).parts[0].estimate.low

    close = only(shift(1.0, at_least=low - 1e-6), plant())
    clear = only(shift(1.0, at_least=0.1), plant())

    assert close.outcome == "pass"
    assert "within Monte Carlo error" in close.warnings[0]
    assert not clear.warnings


def test_nothing_judged_is_no_pass():
    spec = spec_of()
    verdicts = judge(spec, plant())

    assert verdicts == ()
    assert overall([]) == "inconclusive"
    assert summarise(spec, plant(), verdicts).outcome == "inconclusive"


def test_too_few_resamples_for_the_level_are_followed_by_more():
    claims = (answer_mass(0.9), dose_response(0.1))
    spec = spec_of(*claims, resamples=999)

    passing = judge(spec, plant(), num_specs=50)
    failing = judge(spec, plant(Plant(per_unit=-1.0, mass=0.5, mass_sd=0.1)), num_specs=50)

    assert [verdict.outcome for verdict in passing] == ["pass", "pass"]
    assert [verdict.outcome for verdict in failing] == ["fail", "fail"]


def test_summary_survives_what_cannot_be_judged():
    measured = plant()
    measured.answer_logprobs[1] = np.nan
    measured = replace(measured, capability=None)
    spec = spec_of(shift(-1.0, at_most=-0.1))

    summary = summarise(spec, measured, judge(spec, measured))

    assert summary.outcome == "inconclusive"
    assert summary.at(-1.0).num_unscored == 60
    assert math.isnan(summary.at(-1.0).shift.point)
    assert summary.at(1.0).capability is None
    assert summary.at(1.0).shift.point > 0.1


def test_answers_made_by_hand_carry_the_planted_log_odds():
    table = answers(np.array([1.0]), np.array([2.0]), np.array([0.9])).astype(float)

    np.testing.assert_allclose(np.exp(table).sum(axis=-1), 0.9, rtol=1e-6)
    np.testing.assert_allclose(table[..., 0] - table[..., 1], [[3.0, 1.0]], rtol=1e-6)
