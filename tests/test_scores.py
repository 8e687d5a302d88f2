"""Scores: what each number means, on cases that can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_softmax

from caa_harness import scores
from caa_harness.measurements import CapabilityMeasurements


def answers(stance, letter, mass=0.9):
    """Log-probabilities of questions whose matching answer and (A) have these log-odds."""
    stance, letter, mass = np.broadcast_arrays(*map(np.asarray, (stance, letter, mass)))
    orders = []
    for sign in (1, -1):
        a_of_two = expit(letter + sign * stance)
        orders.append(np.stack([a_of_two, 1 - a_of_two], axis=-1) * mass[..., None])
    return np.log(np.stack(orders, axis=-2)).astype(np.float32)


def one_order(table, is_a):
    """Keep the order in which the matching answer has this letter; the other is NaN."""
    table = table.copy()
    table[..., np.flatnonzero(is_a), 1, :] = np.nan
    table[..., np.flatnonzero(~np.asarray(is_a)), 0, :] = np.nan
    return table


log_odds = st.floats(-8, 8)
questions = st.integers(1, 6)


# --- both orders ------------------------------------------------------------------------------


@given(data=st.data(), n=questions)
def test_the_score_is_the_stance_whatever_the_letter_preference(data, n):
    stance, letter = (data.draw(arrays(float, n, elements=log_odds)) for _ in range(2))

    found = scores.question_scores(answers(stance, letter))

    np.testing.assert_allclose(found, expit(stance), atol=1e-4)


@given(data=st.data(), n=questions)
def test_the_letter_level_is_the_letter_preference_whatever_the_stance(data, n):
    stance, letter = (data.draw(arrays(float, n, elements=log_odds)) for _ in range(2))

    found = scores.letter_levels(answers(stance, letter))

    np.testing.assert_allclose(found, expit(letter), atol=1e-4)


@given(data=st.data(), n=questions)
def test_swapping_which_answer_matches_mirrors_the_score_and_keeps_the_letter(data, n):
    stance, letter = (data.draw(arrays(float, n, elements=log_odds)) for _ in range(2))
    table = answers(stance, letter)
    swapped = table[:, ::-1]

    np.testing.assert_allclose(
        scores.question_scores(swapped), 1 - scores.question_scores(table), atol=1e-12
    )
    np.testing.assert_array_equal(scores.letter_levels(swapped), scores.letter_levels(table))


def test_a_question_does_not_move_another_questions_score():
    alone = answers([0.3], [1.0])
    among = answers([0.3, -2.0, 5.0], [1.0, 0.0, -3.0])

    assert scores.question_scores(among)[0] == scores.question_scores(alone)[0]


def test_axes_before_the_question_are_kept():
    table = answers(np.zeros((3, 2, 5)), 0.0)

    assert scores.question_scores(table).shape == (3, 2, 5)
    assert scores.answer_mass(table).shape == (3, 2, 5)
    assert scores.letter_levels(table).shape == (3, 2, 5)


def test_the_mass_is_the_mean_over_the_orders():
    table = answers([1.0], [0.0], mass=0.8)
    table[0, 1] += np.float32(np.log(0.5))

    np.testing.assert_allclose(scores.answer_mass(table), [0.6], rtol=1e-6)


def test_p_of_a_is_out_of_everything_or_of_the_two():
    table = answers([2.0, 0.0], [0.0, 1.0], mass=0.5)

    np.testing.assert_allclose(
        scores.probability_a(table),
        [0.25, 0.5 * expit(1.0)],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        scores.probability_a(table, of_offered=True), [0.5, expit(1.0)], rtol=1e-6
    )


def test_everything_is_float64():
    table = answers([0.1], [0.2])

    assert scores.question_scores(table).dtype == np.float64
    assert scores.answer_mass(table).dtype == np.float64


def test_a_missing_order_is_a_missing_score_and_touches_no_other():
    table = answers([0.5, 0.5], [0.0, 0.0])
    table[0, 1, 0] = np.nan

    for number in (scores.question_scores, scores.letter_levels, scores.answer_mass):
        assert np.isnan(number(table)[0])
        assert np.isfinite(number(table)[1])


# --- wrong way --------------------------------------------------------------------------------


def test_wrong_way_counts_moves_against_the_multipliers_sign():
    unsteered = np.array([0.5, 0.5, 0.5, 0.5])
    steered = np.array([0.6, 0.4, 0.5, 0.7])

    assert scores.wrong_way_share(steered, unsteered, 1.0) == 0.25
    assert scores.wrong_way_share(steered, unsteered, -0.5) == 0.5


def test_wrong_way_leaves_unscored_questions_out():
    unsteered = np.array([0.5, 0.5, np.nan])
    steered = np.array([0.4, 0.6, 0.1])

    assert scores.wrong_way_share(steered, unsteered, 1.0) == 0.5
    assert np.isnan(scores.wrong_way_share(steered[2:], unsteered[2:], 1.0))
    assert np.isnan(scores.wrong_way_share(steered, unsteered, 0.0))


# --- one order, as published ------------------------------------------------------------------


def test_the_published_score_is_p_over_p_plus_p_of_the_order_asked():
    table = one_order(answers([1.0, 1.0], [0.5, 0.5]), np.array([True, False]))

    found = scores.question_scores(table, "paper")

    np.testing.assert_allclose(found, expit([1.5, 0.5]), rtol=1e-6)
    assert np.isnan(scores.question_scores(table)).all()
    assert np.isnan(scores.letter_levels(table)).all()


def test_paper_scoring_of_data_in_both_orders_is_refused_as_nan():
    assert np.isnan(scores.question_scores(answers([1.0], [0.0]), "paper")).all()


def test_an_unknown_way_of_scoring_is_our_own_mistake():
    with pytest.raises(AssertionError, match="mean"):
        scores.question_scores(answers([1.0], [0.0]), "mean")


def test_an_item_whose_key_is_no_letter_adds_nothing_and_still_counts():
    a_prob, b_prob = np.array([0.6, 0.3, 0.9]), np.array([0.2, 0.3, 0.1])

    assert scores.published_score(a_prob[:2], b_prob[:2], ["(A)", "(B)"]) == pytest.approx(0.625)
    assert scores.published_score(a_prob, b_prob, ["(A)", "(B)", "(C)"]) == pytest.approx(1.25 / 3)


def test_balancing_the_letters_weighs_few_a_items_like_many_b_items():
    values = np.array([1.0, 0.2, 0.3, 0.4])
    is_a = np.array([True, False, False, False])

    assert scores.letter_balanced(values, is_a) == pytest.approx((1.0 + 0.3) / 2)
    assert scores.letter_balanced(np.append(values, np.nan), np.append(is_a, True)) == (
        scores.letter_balanced(values, is_a)
    )
    assert np.isnan(scores.letter_balanced(values[1:], is_a[1:]))


def test_a_letter_preference_moves_the_plain_mean_and_not_the_balanced_one():
    # In probability, one letter's gain is the other's loss: liking (A) by 0.1 on each item.
    stance = np.full(8, 0.6)
    is_a = np.array([True] * 6 + [False] * 2)
    fond = np.where(is_a, stance + 0.1, stance - 0.1)

    assert fond.mean() == pytest.approx(0.65)
    assert scores.letter_balanced(fond, is_a) == pytest.approx(0.6)


@settings(deadline=None)
@given(data=st.data(), n=st.integers(2, 12), letter=log_odds)
def test_the_auc_does_not_see_a_constant_letter_preference(data, n, letter):
    stance = data.draw(arrays(float, n, elements=st.integers(-4, 4).map(float)))
    is_a = np.array([True, False, *data.draw(arrays(bool, n - 2))])
    a_over_b = np.where(is_a, stance, -stance)

    found = scores.auc(a_over_b + np.round(letter), is_a)

    assert found == scores.auc(a_over_b, is_a)
    pairs = np.subtract.outer(a_over_b[is_a], a_over_b[~is_a])
    assert found == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_the_auc_of_ties_is_a_half_and_of_one_kind_nothing():
    assert scores.auc(np.zeros(4), np.array([True, True, False, False])) == 0.5
    assert np.isnan(scores.auc(np.zeros(2), np.array([True, True])))
    assert scores.auc(np.array([1.0, 0.0, np.nan]), np.array([True, False, False])) == 1.0


def test_the_order_that_was_asked_says_which_letter_matched():
    is_a = np.array([True, False, True])
    table = one_order(answers([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]), is_a)

    np.testing.assert_array_equal(scores.matching_is_a(table), is_a)
    np.testing.assert_allclose(scores.one_order_logodds(table), [1.0, -1.0, 1.0], rtol=1e-5)


# --- capability -------------------------------------------------------------------------------


def probe(logits, correct, *, mass=1.0):
    """Items with these logits of their options; NaN: not offered."""
    logits = np.asarray(logits, dtype=float)
    offered = np.where(np.isnan(logits), -np.inf, logits)
    logprobs = log_softmax(offered, axis=-1) + np.log(mass)
    logprobs[np.isnan(logits)] = np.nan
    return CapabilityMeasurements(
        multipliers=(0.0,) * len(logits),
        option_logprobs=logprobs.astype(np.float32),
        correct=np.array(correct, dtype=np.int64),
        categories=(None,) * logits.shape[1],
    )


def test_the_probability_of_the_right_option_is_of_those_offered():
    items = probe([[[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, np.nan, np.nan]]], [2, 1], mass=0.5)

    np.testing.assert_allclose(scores.capability_probability(items), [[0.25, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(
        scores.capability_probability(items, of_offered=False), [[0.125, 0.25]], rtol=1e-6
    )


def test_accuracy_wants_the_right_option_above_every_other():
    items = probe([[[1.0, 0.0, 2.0], [1.0, 0.0, np.nan], [1.0, 1.0, 0.0]]], [2, 1, 0])

    np.testing.assert_array_equal(scores.capability_accuracy(items), [[1.0, 0.0, 0.0]])


def test_an_unscored_item_is_nan_in_every_capability_number():
    items = probe([[[1.0, 0.0], [2.0, 0.0]]], [0, 0])
    items.option_logprobs[0, 0] = np.nan

    for number in (scores.capability_probability, scores.capability_accuracy):
        found = number(items)
        assert np.isnan(found[0, 0])
        assert np.isfinite(found[0, 1])


def test_the_probes_auc_asks_whether_a_is_right():
    items = probe([[[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]]], [0, 1, 1])

    assert scores.capability_auc(items).tolist() == [1.0]
    with pytest.raises(AssertionError, match="two options"):
        scores.capability_auc(probe([[[1.0, 0.0, 0.0]]], [0]))
