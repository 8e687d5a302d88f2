"""Simulated coverage, false alarms and power of every method, with what each promises.

Each promise is held with few repetitions in the daily suite and with many under
``slow``.  A rate may exceed its promise by three Monte Carlo standard errors.
Where a method is known to fall short, its cell says by how much.
"""

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from caa_harness.statistics import (
    auc,
    holm,
    null_rank,
    paired_binary,
    paired_mean,
    proportion,
    tango_score,
    two_sample_mean,
)
from caa_harness.statistics.means import RankedMean

RESAMPLES = 9999
ALPHA = 0.025


def repetitions(few, many):
    return pytest.mark.parametrize("repetitions", [few, pytest.param(many, marks=pytest.mark.slow)])


def at_most(promise, count, repetitions):
    """Whether a rate keeps its promise, up to three Monte Carlo standard errors."""
    return count / repetitions <= promise + 3 * math.sqrt(promise * (1 - promise) / repetitions)


def logistic(log_odds):
    return 1 / (1 + np.exp(-log_odds))


@cache
def population(name):
    """Many per-question numbers of one kind: samples are drawn from these, with this mean."""
    rng, size = np.random.default_rng(7), 400_000
    if name == "normal":
        values = rng.normal(0.1, 0.1, size).clip(-1, 1)
    elif name == "smooth":
        base = rng.normal(0, 1.5, size)
        values = logistic(base + rng.normal(0.5, 0.4, size)) - logistic(base)
    elif name == "saturated":
        # Most questions are pinned near 0 or 1; a few move a lot.
        base = rng.choice([-1, 1], size) * rng.gamma(4, 1.6, size)
        values = logistic(base + rng.normal(1, 0.6, size)) - logistic(base)
    elif name == "mass":
        values = 1 - rng.beta(0.6, 6, size)
    elif name == "sparse":
        # One in a hundred goes up, six in a hundred go down, the rest stay where they are.
        u, by = rng.random(size), rng.uniform(0.2, 1, size)
        values = np.where(u < 0.01, by, np.where(u < 0.07, -by, 0.0))
    return values, float(values.mean())


def judged(inference, bound):
    """One-sided p of both methods together: a claim needs the cross-check's consent."""
    both = [inference, *([inference.cross_check] if inference.cross_check is not None else [])]
    return max(i.p_greater(bound) for i in both), max(i.p_less(bound) for i in both)


def false_alarms(name, n, repetitions, alpha=ALPHA):
    """How often the true mean is rejected from below, and from above."""
    values, mean = population(name)
    rng = np.random.default_rng(n)
    counts = [0, 0]
    for repetition in range(repetitions):
        sample = rng.choice(values, n)
        inference = paired_mean(sample, seed=repetition % 8, num_resamples=RESAMPLES)
        for side, p in enumerate(judged(inference, mean)):
            counts[side] += p <= alpha
    return counts


FALSE_ALARMS = {
    # Promised one-sided rates of rejecting the truth at level .025: (from below, from above).
    ("normal", 6): (0.025, 0.025),
    ("normal", 10): (0.025, 0.025),
    ("normal", 20): (0.025, 0.025),
    ("normal", 50): (0.025, 0.025),
    ("smooth", 10): (0.025, 0.030),
    ("smooth", 20): (0.025, 0.030),
    ("smooth", 50): (0.027, 0.029),
    ("smooth", 200): (0.025, 0.027),
    # A sample of pinned questions may not hold the few that move: its upper end is too low.
    ("saturated", 10): (0.025, 0.105),
    ("saturated", 20): (0.025, 0.080),
    ("saturated", 50): (0.025, 0.050),
    ("saturated", 200): (0.025, 0.033),
    ("mass", 10): (0.048, 0.025),
    ("mass", 20): (0.040, 0.025),
    ("mass", 50): (0.031, 0.025),
    ("mass", 200): (0.027, 0.025),
    ("sparse", 10): (0.025, 0.025),
    ("sparse", 50): (0.025, 0.025),
    ("sparse", 100): (0.025, 0.027),
    ("sparse", 200): (0.027, 0.027),
}


@pytest.mark.parametrize(
    ("name", "n", "repetitions"),
    [(name, n, 60) for name, n in FALSE_ALARMS if n <= 50]
    + [pytest.param(*cell, 1500, marks=pytest.mark.slow) for cell in FALSE_ALARMS],
)
def test_the_true_mean_is_rarely_rejected(name, n, repetitions):
    below, above = false_alarms(name, n, repetitions)

    assert at_most(FALSE_ALARMS[name, n][0], below, repetitions)
    assert at_most(FALSE_ALARMS[name, n][1], above, repetitions)


@repetitions(40, 8000)
@pytest.mark.parametrize("divisor", [7, 70])
@pytest.mark.parametrize("n", [20, 50, 100])
def test_small_levels_hold_where_the_data_are_smooth(n, divisor, repetitions):
    below, above = false_alarms("smooth", n, repetitions, alpha=ALPHA / divisor)

    # One resampled tail of a skewed population (skewness .5) errs by half of so small a level.
    assert at_most(ALPHA / divisor, below, repetitions)
    assert at_most(2.0 * ALPHA / divisor, above, repetitions)


@repetitions(200, 1500)
@pytest.mark.parametrize("n", [10, 20, 50])
def test_the_detectable_effect_is_detected(n, repetitions):
    rng = np.random.default_rng(n)
    pilots = [
        paired_mean(rng.normal(0.1, 0.1, n), seed=r, num_resamples=999).estimate(1 - 2 * ALPHA)
        for r in range(50)
    ]
    effect = float(np.mean([pilot.minimum_detectable_effect for pilot in pilots]))

    found = sum(
        judged(
            paired_mean(rng.normal(0.1, 0.1, n), seed=r % 8, num_resamples=RESAMPLES),
            0.1 - effect,
        )[0]
        <= ALPHA
        for r in range(repetitions)
    )

    assert found / repetitions >= 0.8 - 3 * math.sqrt(0.16 / repetitions)


@repetitions(200, 1500)
def test_the_n_needed_decides(repetitions):
    pilot = paired_mean(np.linspace(-0.1, 0.3, 20), seed=1, num_resamples=999)
    n = pilot.n_needed(0.05, alpha=ALPHA)
    rng = np.random.default_rng(0)
    sd = np.linspace(-0.1, 0.3, 20).std(ddof=1)

    found = sum(
        paired_mean(rng.normal(0.1, sd, n), seed=r % 8, num_resamples=RESAMPLES).p_greater(0.05)
        <= ALPHA
        for r in range(repetitions)
    )

    assert found / repetitions >= 0.8 - 3 * math.sqrt(0.16 / repetitions)


@repetitions(200, 1500)
@pytest.mark.parametrize(("num_clusters", "size"), [(6, 10), (10, 5), (12, 5), (30, 4)])
def test_clustered_questions_keep_their_promise(num_clusters, size, repetitions):
    rng = np.random.default_rng(num_clusters)
    clusters = [str(row // size) for row in range(num_clusters * size)]
    counts, naive = [0, 0], 0
    for r in range(repetitions):
        # Intraclass correlation .7.
        shared = rng.normal(0, 0.1 * math.sqrt(0.7), num_clusters)
        own = rng.normal(0, 0.1 * math.sqrt(0.3), num_clusters * size)
        values = (np.repeat(shared, size) + own).clip(-1, 1)
        inference = paired_mean(values, seed=r % 8, num_resamples=RESAMPLES, clusters=clusters)
        for side, p in enumerate(judged(inference, 0.0)):
            counts[side] += p <= ALPHA
        naive += stats.ttest_1samp(values, 0.0, alternative="greater").pvalue <= ALPHA

    assert at_most(ALPHA, counts[0], repetitions)
    assert at_most(ALPHA, counts[1], repetitions)
    # The simulation can fail: questions taken as independent break the promise.
    assert not at_most(ALPHA, naive, repetitions)


@repetitions(60, 1500)
@pytest.mark.parametrize(("own", "other"), [("smooth", "smooth"), ("smooth", "sparse")])
@pytest.mark.parametrize("n", [20, 60])
def test_two_samples_keep_their_promise(own, other, n, repetitions):
    (first, mean), (second, other_mean) = population(own), population(other)
    rng = np.random.default_rng(n)
    counts = [0, 0]
    for r in range(repetitions):
        inference = two_sample_mean(
            rng.choice(first, n),
            rng.choice(second, n),
            share=0.5,
            seed=r % 8,
            num_resamples=RESAMPLES,
        )
        for side, p in enumerate(judged(inference, 0.5 * mean - other_mean)):
            counts[side] += p <= ALPHA

    assert at_most(0.03, counts[0], repetitions)
    assert at_most(0.03, counts[1], repetitions)


def tango_miss_rate(n, up, down, alpha):
    """Probability, added up exactly, that the lower limit lies above the truth."""
    z = stats.norm.isf(alpha)
    misses = [
        (i, j)
        for i in range(n + 1)
        for j in range(n + 1 - i)
        if tango_score(i, j, n, up - down) > z
    ]
    if not misses:
        return 0.0
    counts = np.array([[i, j, n - i - j] for i, j in misses])
    return float(stats.multinomial.pmf(counts, n, [up, down, 1 - up - down]).sum())


@pytest.mark.parametrize(("n", "rate"), [(10, 0.000), (20, 0.002), (50, 0.017), (100, 0.026)])
def test_tango_misses_a_true_loss_as_rarely_as_the_reference_measured(n, rate):
    # Six in a hundred flip, five more down than up; one-sided 5 %.
    assert tango_miss_rate(n, 0.005, 0.055, 0.05) == pytest.approx(rate, abs=0.012)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.025])
@pytest.mark.parametrize("n", [20, 50, 100])
def test_tango_keeps_its_level_over_a_grid_of_truths(n, alpha):
    rates = [
        tango_miss_rate(n, up, down, alpha)
        for up in (0.005, 0.02, 0.05, 0.1, 0.3)
        for down in (0.005, 0.02, 0.05, 0.1, 0.3)
    ]

    # A score method: right on average, liberal at its worst (one direction rare, n = 50).
    assert max(rates) <= 1.9 * alpha
    assert np.mean(rates) <= alpha


@repetitions(300, 5000)
@pytest.mark.parametrize("n", [60, 200])
def test_the_detectable_effect_of_paired_shares_is_detected(n, repetitions):
    rng = np.random.default_rng(n)
    up, down = 0.15, 0.05
    expected = np.arange(n) < round(n * up), np.arange(n) >= n - round(n * down)
    typical = paired_binary(expected[1], expected[0])
    effect = typical.estimate(0.95).minimum_detectable_effect
    found = 0
    for _ in range(repetitions):
        u = rng.random(n)
        before, after = u < down, (u >= down) & (u < down + up)
        found += paired_binary(before, after).p_greater(up - down - effect) <= ALPHA

    assert found / repetitions >= 0.8 - 3 * math.sqrt(0.16 / repetitions)


@repetitions(300, 5000)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_detectable_effect_of_one_share_is_detected(share, repetitions):
    n = 100
    effect = proportion(round(n * share), n).estimate(0.95).minimum_detectable_effect
    seen = np.random.default_rng(0).binomial(n, share, repetitions)
    bound = share + effect

    found = sum(proportion(int(k), n).p_less(bound) <= ALPHA for k in seen)

    assert found / repetitions >= 0.8 - 3 * math.sqrt(0.16 / repetitions)


@repetitions(300, 5000)
@pytest.mark.parametrize("area", [0.5, 0.75, 0.95])
def test_the_area_under_the_curve_keeps_its_promise(area, repetitions):
    rng = np.random.default_rng(0)
    apart = math.sqrt(2) * stats.norm.ppf(area)
    counts = [0, 0]
    for _ in range(repetitions):
        inference = auc(rng.normal(apart, 1, 30), rng.normal(0, 1, 25))
        counts[0] += inference.p_greater(area) <= ALPHA
        counts[1] += inference.p_less(area) <= ALPHA

    # A score method holds on average over both ends.
    assert at_most(0.06, sum(counts), repetitions)


@repetitions(300, 5000)
@pytest.mark.parametrize("draws", [19, 39])
def test_one_more_draw_from_the_null_is_rarely_found_to_stand_out(draws, repetitions):
    rng = np.random.default_rng(draws)
    nulls = [null_rank(row[0], row[1:]) for row in rng.normal(0, 0.02, (repetitions, draws + 1))]

    assert at_most(ALPHA, sum(n.p_greater(0.0) <= ALPHA for n in nulls), repetitions)
    assert at_most(0.05, sum(n.rank_p_greater <= 0.05 for n in nulls), repetitions)


def gate_alarms(rng, num_specs, num_claims, seed):
    """Run a whole gate on which nothing is true; return whether anything passes, or fails."""
    values, mean = population("smooth")
    alarms = [False, False]
    for _ in range(num_specs):
        shared = rng.choice(values, 60)
        p_values = []
        for _ in range(num_claims):
            # Claims of one spec are asked of the same questions.
            sample = np.where(rng.random(60) < 0.7, shared, rng.choice(values, 60))
            p_values.append(judged(paired_mean(sample, seed=seed, num_resamples=RESAMPLES), mean))
        for side in (0, 1):
            adjusted = holm([p[side] for p in p_values])
            alarms[side] |= min(adjusted) <= ALPHA / num_specs
    return alarms


@pytest.mark.parametrize(
    ("num_specs", "num_claims", "repetitions"),
    [(1, 10, 40), pytest.param(7, 10, 200, marks=pytest.mark.slow)],
)
def test_the_whole_gate_rarely_cries_wolf(num_specs, num_claims, repetitions):
    rng = np.random.default_rng(3)
    alarms = np.array([gate_alarms(rng, num_specs, num_claims, r % 8) for r in range(repetitions)])

    assert at_most(ALPHA, alarms[:, 0].sum(), repetitions)
    assert at_most(ALPHA, alarms[:, 1].sum(), repetitions)


def test_the_false_alarm_count_can_fail():
    # A percentile interval of ten saturated questions breaks the promise of the bootstrap-t.
    values, mean = population("saturated")
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        sample = rng.choice(values, 10)
        means = rng.choice(sample, (500, 10)).mean(axis=1)
        alarms += np.quantile(means, 0.975) < mean

    assert not at_most(FALSE_ALARMS["saturated", 10][1], alarms, 300)


def test_the_simulations_reach_the_methods_they_are_about():
    values, _ = population("smooth")
    for n, method in ((6, "sign-flip"), (10, "bootstrap-t")):
        inference = paired_mean(values[:n], seed=1, num_resamples=RESAMPLES)
        assert isinstance(inference, RankedMean)
        assert inference.estimate(0.9).method == method
