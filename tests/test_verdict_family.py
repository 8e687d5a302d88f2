"""How claims and specs share an error rate, and laws that every verdict obeys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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

from caa_harness.statistics import Estimate
from caa_harness.verdict import Part, judge, overall, summarise

CLAIMS = (
    shift(1.0, at_least=0.1),
    shift(-1.0, at_most=-0.1),
    level(0.0, at_least=0.25, at_most=0.75),
    dose_response(0.05),
    capability(0.05),
    answer_mass(0.9),
    letter_part(0.25),
    null(1.0),
    specificity(0.5),
)

truths = st.builds(
    Plant,
    num_questions=st.sampled_from([8, 14, 40, 60]),
    per_unit=st.sampled_from([-0.5, 0.0, 0.4, 0.6, 1.0]),
    letter_per_unit=st.sampled_from([0.0, 0.2, 0.6]),
    mass=st.sampled_from([0.97, 0.905, 0.7]),
    mass_sd=st.sampled_from([0.01, 0.1]),
    other_per_unit=st.sampled_from([0.05, 0.3, -0.5]),
    capability_per_unit=st.sampled_from([0.0, 0.25, 1.0]),
    base=st.sampled_from([0.0, 1.0, 4.0]),
)
seeds = st.integers(0, 10_000)
FEW = settings(max_examples=6, deadline=None)


def judged(claims, measured, **changed):
    num_specs = changed.pop("num_specs", 1)
    spec = spec_of(*claims, num_questions=len(measured.questions), **changed)
    return judge(spec, measured, siblings=OTHERS, num_specs=num_specs)


def test_alpha_is_one_sided_and_shared_over_the_specs_of_the_family():
    alone = judged(CLAIMS, plant())
    of_seven = judged(CLAIMS, plant(), num_specs=7)

    assert {verdict.alpha for verdict in alone} == {(1 - 0.95) / 2}
    assert {verdict.alpha for verdict in of_seven} == {(1 - 0.95) / 2 / 7}


def test_the_family_is_read_from_the_folder(tmp_path):
    for name in ("one", "two", "three"):
        path = tmp_path / f"{name}.behavior.json"
        path.write_text('{"family": "release"}' if name != "three" else "{}")
    spec = spec_of(shift(1.0, at_least=0.1), path=tmp_path / "one.behavior.json", family="release")

    (verdict,) = judge(spec, plant())

    assert verdict.alpha == (1 - 0.95) / 2 / 2


def test_a_smaller_family_decides_what_a_larger_one_leaves_open():
    claim = shift(1.0, at_least=0.178)

    (small,) = judged([claim], plant(), num_specs=1)
    (large,) = judged([claim], plant(), num_specs=7)

    assert (small.outcome, large.outcome) == ("pass", "inconclusive")
    (narrow,), (wide,) = small.parts, large.parts
    assert narrow.estimate.confidence == pytest.approx(0.95)
    assert wide.estimate.confidence == pytest.approx(1 - 0.05 / 7)
    assert wide.estimate.low < 0.178 < narrow.estimate.low


def test_holm_judges_the_surest_claim_at_the_strictest_level():
    claims = (shift(1.0, at_least=0.0), shift(1.0, at_least=0.18), shift(1.0, at_least=0.1))

    sure, open_one, third = judged(claims, plant(), resamples=9999)

    levels = [(1 - verdict.parts[0].estimate.confidence) / 2 for verdict in (sure, third, open_one)]
    assert levels == pytest.approx([0.025 / 3, 0.025 / 2, 0.025 / 1])
    assert [verdict.outcome for verdict in (sure, third, open_one)] == ["pass"] * 3


def test_adjusted_p_values_are_holms():
    claims = (shift(1.0, at_least=0.18), shift(1.0, at_least=0.185), shift(1.0, at_least=0.19))

    verdicts = judged(claims, plant(), resamples=9999)

    raw = [verdict.parts[0].p_holds for verdict in verdicts]
    assert raw == sorted(raw)
    expected = np.maximum.accumulate([3 * raw[0], 2 * raw[1], raw[2]])
    assert [verdict.p_pass for verdict in verdicts] == pytest.approx(np.minimum(expected, 1))


def test_a_claim_is_no_surer_than_its_weakest_part_and_fails_by_its_worst():
    (verdict,) = judged([answer_mass(0.9)], plant(Plant(mass=0.93, mass_sd=0.1)))

    assert len(verdict.parts) == 5
    assert verdict.p_pass == max(part.p_holds for part in verdict.parts)
    assert verdict.p_fail == min(1.0, 5 * min(part.p_violated for part in verdict.parts))


@given(truth=truths, seed=seeds, left_out=st.integers(0, len(CLAIMS) - 1))
@FEW
def test_adding_a_claim_only_ever_makes_the_others_less_decided(truth, seed, left_out):
    measured = plant(truth, seed=seed)
    fewer = [claim for row, claim in enumerate(CLAIMS) if row != left_out]

    before = {v.claim.id: v.outcome for v in judged(fewer, measured)}
    after = {v.claim.id: v.outcome for v in judged(CLAIMS, measured)}

    assert all(after[name] in {outcome, "inconclusive"} for name, outcome in before.items())


@given(truth=truths, seed=seeds, number=st.integers(2, 9))
@FEW
def test_a_larger_family_only_ever_makes_claims_less_decided(truth, seed, number):
    measured = plant(truth, seed=seed)

    alone = judged(CLAIMS, measured)
    shared = judged(CLAIMS, measured, num_specs=number)

    for before, after in zip(alone, shared, strict=True):
        assert after.outcome in {before.outcome, "inconclusive"}


@given(truth=truths, seed=seeds, shuffle=st.randoms(use_true_random=False))
@FEW
def test_the_order_of_the_questions_changes_nothing(truth, seed, shuffle):
    measured = plant(truth, seed=seed)
    order = list(range(truth.num_questions))
    shuffle.shuffle(order)
    turned = replace(
        measured,
        questions=tuple(measured.questions[row] for row in order),
        clusters=tuple(measured.clusters[row] for row in order),
        answer_logprobs=measured.answer_logprobs[:, order],
        nulls=tuple(
            replace(drawn, answer_logprobs=drawn.answer_logprobs[:, order])
            for drawn in measured.nulls
        ),
        others=tuple(
            replace(other, answer_logprobs=other.answer_logprobs[:, order])
            for other in measured.others
        ),
    )

    assert judged(CLAIMS, measured) == judged(CLAIMS, turned)


@given(truth=truths, seed=seeds, number=st.sampled_from([1, 7]))
@FEW
def test_printed_intervals_never_contradict_the_outcome(truth, seed, number):
    for verdict in judged(CLAIMS, plant(truth, seed=seed), num_specs=number):
        shown, refuted = zip(*map(as_printed, verdict.parts), strict=True)
        required = [part.is_required for part in verdict.parts]
        if verdict.outcome == "pass":
            assert all(s for s, needed in zip(shown, required, strict=True) if needed)
            assert not any(refuted)
        elif verdict.outcome == "fail":
            assert any(refuted)
        else:
            has_obstacle = verdict.p_pass == 1.0
            assert has_obstacle or not all(shown)
            assert not any(refuted)


def as_printed(part):
    """Read a part's text as a reader would: is the bound cleared, is it missed?"""
    low, high = part.interval_text.split("[")[1].rstrip("]").split(", ")
    bound = float(part.bound_text)
    if part.direction == "at_least":
        return float(low) > bound, float(high) < bound
    return float(high) < bound, float(low) > bound


def part_of(low, high, bound, direction):
    estimate = Estimate(
        point=(low + high) / 2,
        low=low,
        high=high,
        confidence=0.95,
        method="none",
        n=60,
        num_clusters=None,
        seed=None,
        degenerate=None,
        minimum_detectable_effect=0.1,
        monte_carlo_error=0.0,
    )
    return Part(
        name="x",
        estimate=estimate,
        bound=bound,
        direction=direction,
        p_holds=0.5,
        p_violated=0.5,
        n_needed=None,
        is_required=True,
        is_difference=True,
    )


@given(
    bound=st.floats(-1, 1),
    offsets=st.lists(
        st.floats(-1e-3, 1e-3) | st.sampled_from([0.0, 1e-16, -1e-16, 5e-324]),
        min_size=2,
        max_size=2,
    ),
    direction=st.sampled_from(["at_least", "at_most"]),
)
@settings(max_examples=150, deadline=None)
def test_rounding_keeps_every_end_on_its_side_of_the_bound(bound, offsets, direction):
    low, high = sorted(bound + offset for offset in offsets)
    part = part_of(low, high, bound, direction)

    assert as_printed(part) == (part.is_shown, part.is_refuted)


def test_rounding_takes_more_digits_only_where_three_would_mislead():
    clear = part_of(0.1234567, 0.2, 0.1, "at_least")
    tight = part_of(0.1000012, 0.2, 0.1, "at_least")

    assert clear.interval_text == "+0.162 [+0.123, +0.200]"
    assert tight.interval_text == "+0.150001 [+0.100001, +0.200000]"


@given(truth=truths, seed=seeds)
@settings(max_examples=4, deadline=None)
def test_the_same_measurements_give_the_same_verdicts(truth, seed):
    assert judged(CLAIMS, plant(truth, seed=seed)) == judged(CLAIMS, plant(truth, seed=seed))


def test_turning_the_letters_over_changes_no_verdict_about_behavior():
    measured = plant(Plant(letter=1.0, letter_per_unit=0.2))
    turned = replace(measured, answer_logprobs=measured.answer_logprobs[:, :, ::-1, ::-1])
    claims = [shift(1.0, at_least=0.1), letter_part(0.25), dose_response(0.05)]

    there, back = judged(claims, measured), judged(claims, turned)

    assert [v.outcome for v in there] == [v.outcome for v in back]


def test_the_overall_outcome_is_the_worst():
    assert overall(["pass", "pass"]) == "pass"
    assert overall(["pass", "inconclusive"]) == "inconclusive"
    assert overall(["inconclusive", "fail", "pass"]) == "fail"


def test_a_summary_holds_every_number_a_report_shows():
    measured = plant()
    spec = spec_of(*CLAIMS)

    summary = summarise(spec, measured, judge(spec, measured, siblings=OTHERS))

    assert [at.multiplier for at in summary.multipliers] == list(MULTIPLIERS)
    assert summary.unsteered.point == pytest.approx(0.491, abs=1e-3)
    assert summary.at(1.0).shift.point == pytest.approx(0.208, abs=1e-3)
    assert summary.at(1.0).shift.confidence == 0.95
    assert summary.at(1.0).shift.n == summary.num_questions == 60
    assert summary.at(0.0).shift is None
    assert summary.at(0.0).wrong_way is None
    assert summary.at(1.0).wrong_way == 0.0
    assert abs(summary.at(1.0).letter.point) < 0.01
    assert summary.at(1.0).mass_lowest < summary.at(1.0).mass_mean < 1.0
    assert summary.at(1.0).capability.point == pytest.approx(0.49, abs=0.01)
    assert abs(summary.at(1.0).capability_loss.point) < 0.01
    assert summary.at(0.0).capability_loss is None
    assert summary.at(2.0).capability is None
    assert summary.outcome == "pass"
    assert [name for name, _ in summary.outcomes] == [claim.id for claim in CLAIMS]
    with pytest.raises(KeyError):
        summary.at(3.0)
