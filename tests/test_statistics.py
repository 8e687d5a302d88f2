"""Statistics against published values, independent oracles and degenerate data."""

import doctest
import importlib
import math
import pkgutil

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

import caa_harness.statistics as statistics_package
from caa_harness.statistics import (
    adjacent_steps,
    auc,
    dose_slopes,
    holm,
    holm_divisors,
    mcnemar_mid_p,
    minimum_detectable_effect,
    null_rank,
    paired_binary,
    paired_mean,
    proportion,
    required_n,
    slope_range,
    tango_interval,
    tango_score,
    two_sample_mean,
)

RESAMPLES = 999
MODULES = sorted(m.name for m in pkgutil.iter_modules(statistics_package.__path__))


def shifts(n, *, seed=0, mean=0.1, sd=0.1):
    return np.random.default_rng(seed).normal(mean, sd, n).clip(-1, 1)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module):
    result = doctest.testmod(importlib.import_module(f"caa_harness.statistics.{module}"))

    assert result.failed == 0


def test_there_are_examples_to_run():
    found = [
        example
        for module in MODULES
        for case in doctest.DocTestFinder().find(
            importlib.import_module(f"caa_harness.statistics.{module}")
        )
        for example in case.examples
    ]

    assert len(found) > 30


# Means ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 20, 49])
def test_below_fifty_values_students_t_is_the_cross_check_and_equals_scipy(n):
    values = shifts(n)
    check = paired_mean(values, seed=1, num_resamples=RESAMPLES).cross_check
    oracle = stats.ttest_1samp(values, 0.05, alternative="greater")
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)

    assert check is not None
    assert check.p_greater(0.05) == pytest.approx(oracle.pvalue, rel=1e-9)
    estimate = check.estimate(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


@pytest.mark.parametrize("n", [50, 200])
def test_from_fifty_values_on_the_bootstrap_stands_alone(n):
    assert paired_mean(shifts(n), seed=1, num_resamples=RESAMPLES).cross_check is None


def test_the_bootstrap_t_equals_a_loop_that_follows_the_textbook():
    values = np.random.default_rng(5).gamma(1.0, 0.05, 30)
    rng = np.random.default_rng(99)
    t = []
    for _ in range(20_000):
        resample = rng.choice(values, len(values))
        se = resample.std(ddof=1) / math.sqrt(len(values))
        t.append((resample.mean() - values.mean()) / se)
    se = values.std(ddof=1) / math.sqrt(len(values))
    low, high = values.mean() - se * np.quantile(t, [0.975, 0.025])

    estimate = paired_mean(values, seed=1, num_resamples=19_999).estimate(0.95)

    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.08 * se)
    assert estimate.high - estimate.point > 1.2 * (estimate.point - estimate.low)


@pytest.mark.parametrize("n", [5, 6, 7, 8, 9])
@pytest.mark.parametrize("bound", [-0.05, 0.0, 0.11])
def test_five_to_nine_values_get_the_exact_sign_flip_test_of_scipy(n, bound):
    values = shifts(n, seed=n)
    inference = paired_mean(values, seed=1, num_resamples=RESAMPLES)

    for mine, alternative in ((inference.p_greater, "greater"), (inference.p_less, "less")):
        oracle = stats.permutation_test(
            (values - bound,),
            np.mean,
            permutation_type="samples",
            n_resamples=np.inf,
            alternative=alternative,
        )
        # The bound on the point's wrong side is never better than even odds.
        assert mine(bound) in (pytest.approx(oracle.pvalue), pytest.approx(0.5))
        if oracle.pvalue < 0.5:
            assert mine(bound) == pytest.approx(oracle.pvalue)


def test_five_values_cannot_pass_at_one_in_forty():
    values = np.array([0.4, 0.5, 0.6, 0.7, 0.8])
    inference = paired_mean(values, seed=1, num_resamples=RESAMPLES)

    assert inference.p_greater(0.0) == 1 / 32
    estimate = inference.estimate(0.95)
    assert (estimate.low, estimate.high) == (-1.0, 1.0)
    assert "cannot resolve" in estimate.degenerate


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_fewer_than_five_values_decide_nothing(n):
    inference = paired_mean(np.full(n, 0.9), seed=1, num_resamples=RESAMPLES)
    estimate = inference.estimate(0.95)

    assert inference.p_greater(-1.0) == inference.p_less(1.0) == 1.0
    assert (estimate.low, estimate.high) == (-1.0, 1.0)
    assert "fewer than 5" in estimate.degenerate
    assert math.isinf(estimate.minimum_detectable_effect)
    assert math.isnan(estimate.point) == (n == 0)


@pytest.mark.parametrize("value", [0.0, 0.3, -1.0, 1.0])
@pytest.mark.parametrize("n", [5, 10, 50, 570])
def test_values_that_are_all_alike_never_give_certainty(value, n):
    inference = paired_mean(np.full(n, value), seed=1, num_resamples=RESAMPLES)
    estimate = inference.estimate(0.95)
    unseen = 1 - 0.025 ** (1 / n)

    assert estimate.low == pytest.approx(value - (value + 1.0) * unseen)
    assert estimate.high == pytest.approx(value + (1.0 - value) * unseen)
    assert estimate.low < estimate.high
    assert f"all {n} values are" in estimate.degenerate
    assert estimate.minimum_detectable_effect > 0.0
    for bound in (-2.0, -1.0, -0.5, 0.0, 0.299999, 1.0, 2.0):
        assert inference.p_greater(bound) > 0.0
        assert inference.p_less(bound) > 0.0


def test_a_shift_that_is_constant_up_to_rounding_counts_as_constant():
    base = np.random.default_rng(0).random(50) / 2
    estimate = paired_mean((base + 0.3) - base, seed=1, num_resamples=RESAMPLES).estimate(0.95)

    assert estimate.degenerate is not None
    assert estimate.high - estimate.low > 0.1


def test_few_values_that_differ_leave_room_for_more_of_them():
    values = np.array([0.0] * 46 + [-0.01] * 3 + [0.02])
    estimate = paired_mean(values, seed=1, num_resamples=RESAMPLES).estimate(0.9)

    assert "only 4 of 50 values differ from 0" in estimate.degenerate
    assert estimate.low == pytest.approx(-stats.binomtest(3, 50).proportion_ci(0.9).high)
    assert estimate.high == pytest.approx(stats.binomtest(1, 50).proportion_ci(0.9).high)


def test_too_few_resamples_for_the_level_are_said_not_papered_over():
    inference = paired_mean(shifts(60), seed=1, num_resamples=999)
    estimate = inference.estimate(1 - 2 * 3.6e-4)

    assert inference.p_greater(-0.9) == 1 / 1000
    assert (estimate.low, estimate.high) == (-1.0, 1.0)
    assert "1000 resamples" in estimate.degenerate


def test_the_interval_stays_inside_the_range_of_one_question():
    values = np.array([0.99, 1.0, 1.0, 0.2, 0.98, 0.97, 0.1, 1.0, 0.96, 0.95, 0.99, 0.3])
    estimate = paired_mean(
        values, seed=1, num_resamples=RESAMPLES, value_range=(0.0, 1.0)
    ).estimate(0.99)

    assert 0.0 <= estimate.low < estimate.high <= 1.0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.5])
def test_values_that_cannot_be_are_our_own_mistake(wrong):
    with pytest.raises(AssertionError):
        paired_mean(np.array([0.1] * 9 + [wrong]), seed=1, num_resamples=RESAMPLES)


def test_clusters_count_as_one_value_each():
    means = shifts(12)
    values = np.repeat(means, 5)
    clusters = [str(row // 5) for row in range(60)]
    clustered = paired_mean(values, seed=1, num_resamples=RESAMPLES, clusters=clusters)
    collapsed = paired_mean(means, seed=1, num_resamples=RESAMPLES)
    estimate = clustered.estimate(0.95)

    assert (estimate.n, estimate.num_clusters) == (60, 12)
    assert estimate.low == pytest.approx(collapsed.estimate(0.95).low)
    assert clustered.p_greater(0.05) == collapsed.p_greater(0.05)
    assert clustered.n_needed(0.05, alpha=0.025) == 5 * collapsed.n_needed(0.05, alpha=0.025)


def test_five_to_nine_clusters_get_students_t():
    means = shifts(6)
    inference = paired_mean(
        np.repeat(means, 3),
        seed=1,
        num_resamples=RESAMPLES,
        clusters=[str(row // 3) for row in range(18)],
    )

    assert inference.p_greater(0.0) == pytest.approx(
        stats.ttest_1samp(means, 0.0, alternative="greater").pvalue
    )


def test_clusters_of_one_question_are_no_clusters():
    values = shifts(30)
    names = [str(row) for row in range(29)] + [None]

    with_names = paired_mean(values, seed=1, num_resamples=RESAMPLES, clusters=names)

    assert with_names.estimate(0.9) == paired_mean(
        values, seed=1, num_resamples=RESAMPLES
    ).estimate(0.9)


def test_the_monte_carlo_error_is_the_spread_over_seeds():
    values = shifts(60)
    estimates = [
        paired_mean(values, seed=seed, num_resamples=RESAMPLES).estimate(0.95) for seed in range(60)
    ]
    spread = np.std([e.low for e in estimates], ddof=1)
    claimed = np.mean([e.monte_carlo_error for e in estimates])

    assert 0.6 < claimed / spread < 1.8


def test_a_bound_within_the_monte_carlo_error_is_a_close_call():
    estimate = paired_mean(shifts(60), seed=1, num_resamples=RESAMPLES).estimate(0.95)
    exact = proportion(3, 50).estimate(0.95)

    assert estimate.is_close_call(estimate.low + estimate.monte_carlo_error)
    assert not estimate.is_close_call(estimate.low - 5 * estimate.monte_carlo_error)
    assert not exact.is_close_call(exact.low)


def test_two_samples_agree_with_welch_where_both_are_large():
    own, other = shifts(400, mean=0.3), shifts(300, seed=1, mean=0.05, sd=0.2)
    inference = two_sample_mean(own, other, share=0.5, seed=1, num_resamples=9999)
    oracle = stats.ttest_ind(0.5 * own, other, equal_var=False).confidence_interval(0.95)
    estimate = inference.estimate(0.95)
    width = oracle.high - oracle.low

    assert (estimate.low, estimate.high) == pytest.approx(
        (oracle.low, oracle.high), abs=0.04 * width
    )


def test_two_small_samples_carry_welchs_t_as_cross_check():
    own, other = shifts(20, mean=0.3), shifts(15, seed=1)
    check = two_sample_mean(own, other, share=0.5, seed=1, num_resamples=RESAMPLES).cross_check

    assert check.p_greater(0.0) == pytest.approx(
        stats.ttest_ind(0.5 * own, other, equal_var=False, alternative="greater").pvalue
    )


def test_adding_the_other_mean_is_subtracting_its_mirror():
    own, other = shifts(20, mean=0.3), shifts(25, seed=1)
    added = two_sample_mean(own, other, share=0.5, sign=1, seed=1, num_resamples=RESAMPLES)
    mirrored = two_sample_mean(own, -other, share=0.5, seed=1, num_resamples=RESAMPLES)

    assert added.estimate(0.95) == mirrored.estimate(0.95)


def test_two_samples_of_which_one_did_not_move_stay_wide():
    own, other = shifts(50, mean=0.3), np.zeros(50)
    inference = two_sample_mean(own, other, share=0.5, seed=1, num_resamples=9999)
    estimate = inference.estimate(0.95)
    unseen = 1 - 0.0125 ** (1 / 50)

    assert estimate.high - estimate.low > 2 * unseen
    assert "all 50 values are 0" in estimate.degenerate
    assert inference.p_greater(estimate.low - 1e-6) <= 0.025 + 1e-9
    assert inference.p_greater(estimate.low + 1e-6) > 0.025


def test_two_samples_of_which_one_is_too_small_decide_nothing():
    inference = two_sample_mean(shifts(50), shifts(3), share=0.5, seed=1, num_resamples=RESAMPLES)

    assert inference.p_greater(-1.4) == 1.0
    assert inference.n_needed(0.0, alpha=0.025) is None
    assert "3 independent values are fewer" in inference.estimate(0.95).degenerate


# Shares -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "confidence", "low", "high"),
    [
        # Tango 1998, both examples; Agresti and Min 2005; Fagerland et al. 2014, table 1.
        ((4, 9, 3, 16), 0.95, -0.027, 0.390),
        ((43, 0, 1, 0), 0.90, -0.096, 0.037),
        ((53, 16, 8, 9), 0.95, -0.020, 0.207),
        ((1, 1, 7, 12), 0.95, -0.517, -0.026),
    ],
)
def test_tango_gives_the_published_intervals(counts, confidence, low, high):
    both, up, down, neither = counts
    interval = tango_interval(up, down, sum(counts), confidence=confidence)

    assert interval == pytest.approx((low, high), abs=5.1e-4)
    assert both + neither == sum(counts) - up - down


@pytest.mark.parametrize(("n", "low"), [(10, -0.213), (50, -0.051), (100, -0.026)])
def test_no_flips_at_all_still_leave_room_for_a_loss(n, low):
    same = np.ones(n, dtype=bool)
    estimate = paired_binary(same, same).estimate(0.90)

    assert estimate.low == pytest.approx(low, abs=5e-4)
    assert estimate.high == pytest.approx(-low, abs=5e-4)
    assert estimate.degenerate == f"none of {n} answers flipped"


def constrained_likelihood_score(up, down, n, difference):
    """Score statistic with the nuisance share found by maximising the likelihood."""

    def loss(share_down):
        shares = share_down + difference, share_down, 1 - 2 * share_down - difference
        return -sum(
            count * math.log(max(share, 1e-300))
            for count, share in zip((up, down, n - up - down), shares, strict=True)
            if count
        )

    best = optimize.minimize_scalar(
        loss,
        bounds=(max(0.0, -difference), (1 - difference) / 2),
        method="bounded",
        options={"xatol": 1e-14},
    ).x
    variance = (2 * best + difference - difference**2) / n
    return ((up - down) / n - difference) / math.sqrt(variance)


@pytest.mark.parametrize("difference", [-0.6, -0.2, -0.01, 0.0, 0.05, 0.3, 0.8])
@pytest.mark.parametrize(("up", "down", "n"), [(9, 3, 32), (1, 7, 21), (0, 1, 44), (0, 0, 50)])
def test_tangos_closed_form_is_the_constrained_maximum_likelihood(up, down, n, difference):
    if up + down == 0 and difference == 0.0:
        assert tango_score(up, down, n, difference) == 0.0
        return

    oracle = constrained_likelihood_score(up, down, n, difference)

    assert tango_score(up, down, n, difference) == pytest.approx(oracle, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.025, 3.6e-4])
@pytest.mark.parametrize(
    ("up", "down", "n"), [(9, 3, 32), (0, 0, 10), (0, 7, 7), (7, 0, 7), (3, 200, 1000)]
)
def test_tangos_interval_ends_where_the_score_reaches_the_level(up, down, n, alpha):
    low, high = tango_interval(up, down, n, confidence=1 - 2 * alpha)
    z = stats.norm.isf(alpha)

    assert -1.0 <= low < high <= 1.0
    for end, sign in ((low, 1), (high, -1)):
        if abs(end) < 1.0:
            before, after = (tango_score(up, down, n, end + d) - sign * z for d in (-1e-9, 1e-9))
            assert before >= 0.0 >= after


@pytest.mark.parametrize(("up", "down"), [(0, 0), (1, 7), (7, 1), (4, 4), (0, 12), (30, 11)])
def test_mid_p_mcnemar_is_the_exact_p_less_half_of_its_point(up, down):
    if up == down:
        assert mcnemar_mid_p(up, down) == 1.0
        return
    exact = mcnemar([[0, up], [down, 0]], exact=True).pvalue

    assert mcnemar_mid_p(up, down) == pytest.approx(exact - stats.binom.pmf(up, up + down, 0.5))
    assert tango_score(up, down, 100, 0.0) ** 2 == pytest.approx(
        mcnemar([[0, up], [down, 0]], exact=False, correction=False).statistic
    )


def test_flips_within_a_cluster_are_not_independent():
    before = np.tile([True, True, False, True], 12)
    after = before.copy()
    after[:8] = ~after[:8]
    estimate = paired_binary(before, after, clusters=[str(row // 4) for row in range(48)]).estimate(
        0.95
    )

    assert estimate.num_clusters == 12
    assert "cluster" in estimate.method


@pytest.mark.parametrize("confidence", [0.9, 0.95, 1 - 2 * 3.6e-4])
@pytest.mark.parametrize(("seen", "n"), [(0, 5), (0, 50), (3, 50), (50, 50), (199, 570)])
def test_one_proportion_is_clopper_pearson_of_scipy(seen, n, confidence):
    estimate = proportion(seen, n).estimate(confidence)
    oracle = stats.binomtest(seen, n).proportion_ci(confidence, method="exact")

    assert (estimate.low, estimate.high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


@pytest.mark.parametrize("bound", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize(("seen", "n"), [(0, 50), (3, 50), (50, 50), (199, 570)])
def test_the_p_of_one_proportion_is_the_binomial_test(seen, n, bound):
    inference = proportion(seen, n)

    for mine, alternative in ((inference.p_greater, "greater"), (inference.p_less, "less")):
        oracle = stats.binomtest(seen, n, bound, alternative=alternative).pvalue
        assert mine(bound) == pytest.approx(oracle)


def test_auc_is_the_mann_whitney_statistic_with_ties_counting_half():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(2, 9, 40) / 8, rng.integers(0, 7, 30) / 8
    oracle = stats.mannwhitneyu(positive, negative).statistic / (40 * 30)

    assert auc(positive, negative).estimate(0.95).point == pytest.approx(oracle)


def test_perfect_separation_is_not_certainty():
    inference = auc(np.arange(10.0) + 10, np.arange(10.0))
    estimate = inference.estimate(0.95)

    assert (estimate.point, estimate.high) == (1.0, 1.0)
    assert 0.7 < estimate.low < 0.95
    assert 0.0 < inference.p_greater(0.5) < 0.001


# Families ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed):
    p_values = np.random.default_rng(seed).beta(0.3, 2.0, 12)

    np.testing.assert_allclose(
        holm(p_values.tolist()), multipletests(p_values, method="holm")[1], rtol=1e-12
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_divisor_of_each_claim_tells_its_outcome(seed):
    p_values = np.random.default_rng(seed).beta(0.2, 3.0, 9).tolist()
    alpha = 0.025

    rejected = [p <= alpha for p in holm(p_values)]

    divisors = holm_divisors(p_values, alpha=alpha)
    assert rejected == [p <= alpha / d for p, d in zip(p_values, divisors, strict=True)]


def test_holm_of_nothing_and_of_one():
    assert holm([]) == []
    assert holm([0.02]) == [0.02]
    assert holm_divisors([], alpha=0.025) == []


def test_a_p_that_is_no_number_is_refused():
    with pytest.raises(AssertionError):
        holm([0.01, math.nan])


@pytest.mark.parametrize(("beaten", "p"), [(39, 1 / 40), (38, 2 / 40), (0, 1.0)])
def test_the_rank_p_counts_the_draws_that_reach_the_observed(beaten, p):
    draws = np.concatenate([np.linspace(-0.1, 0.1, beaten), np.full(39 - beaten, 0.5)])

    assert null_rank(0.5, draws).rank_p_greater == pytest.approx(p)
    assert null_rank(-0.5, -draws).rank_p_less == pytest.approx(p)


def test_the_predictive_p_is_students_t_of_one_more_draw():
    draws = np.random.default_rng(0).normal(0.02, 0.03, 39)
    null = null_rank(0.15, draws)
    t = (0.15 - draws.mean()) / (draws.std(ddof=1) * math.sqrt(1 + 1 / 39))

    assert null.p_greater(0.0) == pytest.approx(stats.t.sf(t, 38))
    assert null.p_less(0.0) == pytest.approx(stats.t.cdf(t, 38))
    estimate = null.estimate(0.95)
    assert estimate.n == 39
    assert null.p_greater(estimate.low) == pytest.approx(0.025)


@pytest.mark.parametrize("draws", [np.zeros(39), np.full(39, 0.1), np.array([0.1, 0.2])])
def test_draws_without_spread_leave_only_the_rank(draws):
    null = null_rank(0.5, draws)
    estimate = null.estimate(0.95)

    assert null.p_greater(0.0) == null.rank_p_greater == 1 / (len(draws) + 1)
    assert estimate.degenerate is not None
    assert (estimate.low, estimate.high) == (-2.0, 2.0)


def test_an_observed_number_equal_to_every_draw_beats_none():
    assert null_rank(0.0, np.zeros(19)).p_greater(0.0) == 1.0
    assert null_rank(0.0, np.zeros(19)).p_less(0.0) == 1.0


# Doses ------------------------------------------------------------------------------------


def test_slopes_are_those_of_a_least_squares_fit():
    multipliers = [-2.0, -0.5, 0.0, 1.0, 2.0]
    scores = np.random.default_rng(0).random((5, 7))

    np.testing.assert_allclose(
        dose_slopes(scores, multipliers), np.polyfit(multipliers, scores, 1)[0], atol=1e-12
    )


def test_no_scores_are_steeper_than_the_range_says():
    multipliers = [-2, -1, 0, 1, 2]
    low, high = slope_range(multipliers)
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1)
    slopes = dose_slopes(corners, multipliers)

    assert (slopes.min(), slopes.max()) == pytest.approx((low, high))


def test_steps_add_up_to_the_whole_move():
    scores = np.random.default_rng(0).random((5, 7))

    np.testing.assert_allclose(adjacent_steps(scores).sum(axis=0), scores[-1] - scores[0])


# Planning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.025, 3.6e-4])
@pytest.mark.parametrize("n", [5, 10, 50, 500])
def test_the_detectable_effect_has_the_power_it_names(n, alpha):
    effect = minimum_detectable_effect(0.2, n, alpha=alpha, power=0.8)
    power = stats.nct.sf(stats.t.isf(alpha, n - 1), n - 1, effect / (0.2 / math.sqrt(n)))

    assert power == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("margin", "n"), [(0.05, 25), (0.03, 69), (0.01, 619)])
def test_the_n_needed_is_that_of_the_normal_formula_and_a_little_more(margin, n):
    # The normal formula knows the spread; a t test has to estimate it.
    assert n <= required_n(0.1, margin, alpha=0.05) <= n + 3


@pytest.mark.parametrize("distance", [0.0, -0.1, math.nan, math.inf])
def test_no_distance_needs_no_finite_n(distance):
    assert required_n(0.1, distance, alpha=0.025) is None


INFERENCES = {
    "bootstrap": paired_mean(shifts(40), seed=1, num_resamples=RESAMPLES),
    "sign-flip": paired_mean(shifts(7), seed=1, num_resamples=RESAMPLES),
    "constant": paired_mean(np.full(30, 0.1), seed=1, num_resamples=RESAMPLES),
    "sparse": paired_mean(np.array([0.1] * 28 + [0.0] * 2), seed=1, num_resamples=RESAMPLES),
    "two samples": two_sample_mean(
        shifts(40, mean=0.3), shifts(50), share=0.9, seed=1, num_resamples=RESAMPLES
    ),
    "tango": paired_binary(np.arange(60) < 30, np.arange(60) < 38),
    "proportion": proportion(8, 60),
}


@pytest.mark.parametrize("name", INFERENCES)
def test_more_distance_needs_no_more_questions(name):
    inference = INFERENCES[name]
    point = inference.estimate(0.95).point
    needed = [inference.n_needed(point - gap, alpha=0.025) for gap in (0.02, 0.05, 0.1)]

    assert [n is None for n in needed] == sorted((n is None for n in needed), reverse=True)
    known = [n for n in needed if n is not None]
    assert known == sorted(known, reverse=True)
    assert all(n >= 5 for n in known)


def test_the_point_itself_is_never_decided():
    for name, inference in INFERENCES.items():
        if name not in ("constant", "sparse"):
            point = inference.estimate(0.95).point
            assert inference.n_needed(point, alpha=0.025) is None, name
