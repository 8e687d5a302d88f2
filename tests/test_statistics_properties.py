"""Laws that every estimate keeps, whatever the numbers."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from caa_harness.statistics import (
    auc,
    holm,
    holm_divisors,
    paired_binary,
    paired_mean,
    proportion,
    two_sample_mean,
)

law = settings(max_examples=60, deadline=None)

RESAMPLES = 999
numbers = st.integers(-1000, 1000).map(lambda k: k / 1000)
samples = st.one_of(
    st.lists(numbers, min_size=5, max_size=40),
    # Saturated and sparse: most values alike.
    st.tuples(numbers, st.integers(5, 40), st.lists(numbers, max_size=6)).map(
        lambda parts: [parts[0]] * parts[1] + parts[2]
    ),
).map(np.array)
seeds = st.integers(0, 2**63 - 1)
confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99, 0.995])
bounds = st.integers(-1000, 1000).map(lambda k: k / 1000 + 0.00037)


def infer(values, seed=1, **options):
    return paired_mean(values, seed=seed, num_resamples=RESAMPLES, **options)


def inferences():
    """Every kind of inference, from numbers that hypothesis picks."""
    flips = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=60)
    return st.one_of(
        samples.map(infer),
        flips.map(
            lambda rows: paired_binary(
                np.array([a for a, _ in rows]), np.array([b for _, b in rows])
            )
        ),
        st.tuples(st.integers(0, 40), st.integers(40, 80)).map(lambda k_n: proportion(*k_n)),
        st.tuples(samples, samples).map(lambda two: auc(*two)),
        st.tuples(samples, samples).map(
            lambda two: two_sample_mean(*two, share=0.5, seed=1, num_resamples=RESAMPLES)
        ),
    )


@law
@given(inference=inferences(), bound=bounds, confidence=confidences)
def test_the_p_and_the_interval_never_disagree(inference, bound, confidence):
    estimate = inference.estimate(confidence)
    alpha = (1 - confidence) / 2
    # Away from the end itself, where a closed form is exact to its last digits only.
    assume(min(abs(estimate.low - bound), abs(estimate.high - bound)) > 1e-7)

    # A level and its confidence differ in the last bits.
    assert (inference.p_greater(bound) <= alpha * (1 + 1e-6)) == (estimate.low > bound)
    assert (inference.p_less(bound) <= alpha * (1 + 1e-6)) == (estimate.high < bound)


@law
@given(values=samples, seed=seeds, confidence=confidences)
def test_the_p_of_a_resampled_mean_switches_exactly_at_its_bounds(values, seed, confidence):
    inference = infer(values, seed)
    estimate = inference.estimate(confidence)
    assume(estimate.degenerate is None)
    alpha = (1 - confidence) / 2 * (1 + 1e-6)

    assert inference.p_greater(estimate.low) > alpha
    assert inference.p_less(estimate.high) > alpha
    assert inference.p_greater(np.nextafter(estimate.low, -2)) <= alpha
    assert inference.p_less(np.nextafter(estimate.high, 2)) <= alpha


@law
@given(inference=inferences(), confidence=confidences)
def test_the_interval_holds_the_point_and_has_a_width(inference, confidence):
    estimate = inference.estimate(confidence)

    assert estimate.low <= estimate.point + 1e-12
    assert estimate.point <= estimate.high + 1e-12
    assert estimate.low < estimate.high
    assert estimate.minimum_detectable_effect > 0.0
    assert estimate.monte_carlo_error >= 0.0


@law
@given(inference=inferences())
def test_more_confidence_is_never_narrower(inference):
    estimates = [inference.estimate(c) for c in (0.5, 0.8, 0.95, 0.99, 0.999, 0.9999)]
    lows, highs = [e.low for e in estimates], [e.high for e in estimates]

    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)


@law
@given(inference=inferences(), a=bounds, b=bounds)
def test_a_further_bound_is_never_harder_to_reject(inference, a, b):
    low, high = min(a, b), max(a, b)

    assert 0.0 < inference.p_greater(low) <= inference.p_greater(high) <= 1.0
    assert 0.0 < inference.p_less(high) <= inference.p_less(low) <= 1.0


@law
@given(values=samples, seed=seeds, confidence=confidences)
def test_negating_the_values_mirrors_the_interval(values, seed, confidence):
    there, back = (
        infer(values, seed).estimate(confidence),
        infer(-values, seed).estimate(confidence),
    )

    np.testing.assert_allclose([back.low, back.high], [-there.high, -there.low], atol=1e-12)


@law
@given(values=samples, seed=seeds, order=st.randoms(use_true_random=False))
def test_the_order_of_the_questions_cannot_show(values, seed, order):
    shuffled = values.tolist()
    order.shuffle(shuffled)

    assert infer(np.array(shuffled), seed).estimate(0.95) == infer(values, seed).estimate(0.95)


@law
@given(values=samples, seed=seeds, factor=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_another_unit_changes_the_unit_alone(values, seed, factor):
    one = infer(values, seed).estimate(0.95)
    other = infer(factor * values, seed, value_range=(-factor, factor)).estimate(0.95)

    np.testing.assert_allclose(
        [other.point, other.low, other.high],
        [factor * one.point, factor * one.low, factor * one.high],
        atol=1e-12,
    )


@law
@given(values=samples, seed=seeds, by=numbers)
def test_moving_every_value_moves_the_interval_along(values, seed, by):
    one = infer(values, seed, value_range=(-1.0, 1.0)).estimate(0.95)
    other = infer(values + by, seed, value_range=(by - 1.0, by + 1.0)).estimate(0.95)

    np.testing.assert_allclose([other.low, other.high], [one.low + by, one.high + by], atol=1e-9)


@law
@given(values=samples, copies=st.integers(2, 4))
def test_copying_every_question_into_its_cluster_adds_no_certainty(values, copies):
    assume(len(values) >= 10)
    clusters = [str(row % len(values)) for row in range(copies * len(values))]
    one = infer(values).estimate(0.95)
    copied = infer(np.tile(values, copies), clusters=clusters).estimate(0.95)

    np.testing.assert_allclose([copied.low, copied.high], [one.low, one.high], atol=1e-9)


@law
@given(values=samples, seed=seeds)
def test_the_same_seed_gives_the_same_bytes(values, seed):
    first, second = infer(values, seed), infer(values.copy(), seed)

    assert repr(first.estimate(0.95)) == repr(second.estimate(0.95))
    assert first.p_greater(0.01) == second.p_greater(0.01)


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    script = (
        "import numpy as np\n"
        "from caa_harness.statistics import paired_mean\n"
        "values = np.arange(40) ** 2 / 4000\n"
        "print(repr(paired_mean(values, seed=7, num_resamples=999).estimate(0.95)))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    here = paired_mean(np.arange(40) ** 2 / 4000, seed=7, num_resamples=999).estimate(0.95)

    assert elsewhere.strip() == repr(here)


def test_another_seed_gives_other_bounds_within_the_monte_carlo_error():
    values = np.arange(40) ** 2 / 4000
    one, other = infer(values, 1).estimate(0.95), infer(values, 2).estimate(0.95)

    assert replace(one, seed=2) != other
    assert abs(one.low - other.low) < 8 * one.monte_carlo_error


def test_nothing_is_drawn_from_the_global_generator():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    infer(np.arange(40) ** 2 / 4000)

    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@law
@given(
    p_values=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12),
    alpha=st.sampled_from([0.05, 0.025, 0.001]),
)
def test_holm_adjusts_upwards_and_keeps_the_order(p_values, alpha):
    adjusted = holm(p_values)
    divisors = holm_divisors(p_values, alpha=alpha)

    assert all(p <= a <= 1.0 for p, a in zip(p_values, adjusted, strict=True))
    by_p = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in by_p] == sorted(adjusted)
    assert [divisors[i] for i in by_p] == sorted(divisors, reverse=True)
    assert all(1 <= d <= len(p_values) for d in divisors)


@pytest.mark.parametrize("resamples", [999, 1999, 9999])
def test_a_level_and_its_confidence_round_trip_to_the_same_order_statistic(resamples):
    values = np.random.default_rng(0).normal(0.1, 0.1, 40)
    inference = paired_mean(values, seed=1, num_resamples=resamples)

    for divisor in range(1, 80):
        alpha = 0.025 / divisor
        low = inference.estimate(1 - 2 * alpha).low
        assert inference.p_greater(np.nextafter(low, -2)) <= alpha or low == -1.0
        assert inference.p_greater(low) > alpha
