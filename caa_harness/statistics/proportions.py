"""Shares: one proportion, paired yes/no answers, and the area under a ROC curve.

Counts go in, an ``Inference`` comes out.  Every interval here is a score or an
exact one: it stays wide where nothing was seen to change, and never has a width
of zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

from caa_harness.statistics.inference import (
    MIN_QUESTIONS,
    Estimate,
    Inference,
    never_zero,
    normal_quantile,
    one_sided_level,
    upper_normal_quantile,
    upper_share,
)
from caa_harness.statistics.means import Clusters, paired_mean

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

_DEFAULT_POWER = 0.8


def _detectable(low: float, point: float, high: float, alpha: float) -> float:
    """Return a score interval's detectable distance: its longer arm, stretched to the power."""
    stretch = 1.0 + normal_quantile(_DEFAULT_POWER) / upper_normal_quantile(alpha)
    return max(point - low, high - point) * stretch


def _too_few(n: int) -> str | None:
    return f"{n} questions are fewer than {MIN_QUESTIONS}" if n < MIN_QUESTIONS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedProportions:
    """Difference of two paired proportions by Tango's score method."""

    num_up: int
    """Questions that went from no to yes."""
    num_down: int
    n: int
    cross_check: Inference | None = None

    @property
    def point(self) -> float:
        """Proportion after minus proportion before."""
        return (self.num_up - self.num_down) / self.n if self.n else math.nan

    @property
    def mcnemar_p(self) -> float:
        """Two-sided mid-p of McNemar's test that nothing moved."""
        return mcnemar_mid_p(self.num_up, self.num_down)

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval."""
        alpha = one_sided_level(confidence)
        few = _too_few(self.n)
        low, high = (
            (-1.0, 1.0)
            if few
            else tango_interval(self.num_up, self.num_down, self.n, confidence=confidence)
        )
        unmoved = f"none of {self.n} answers flipped" if self.num_up + self.num_down == 0 else None
        return Estimate(
            point=self.point,
            low=low,
            high=high,
            confidence=confidence,
            method="Tango score",
            n=self.n,
            num_clusters=None,
            seed=None,
            degenerate=few or unmoved,
            minimum_detectable_effect=(
                math.inf if few else _detectable(low, self.point, high, alpha)
            ),
            monte_carlo_error=0.0,
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "difference <= bound"."""
        return 1.0 if _too_few(self.n) else never_zero(special.ndtr(-self._z(bound)))

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "difference >= bound"."""
        return 1.0 if _too_few(self.n) else never_zero(special.ndtr(self._z(bound)))

    def n_needed(self, bound: float, *, alpha: float, power: float = _DEFAULT_POWER) -> int | None:
        """Questions that would decide against ``bound`` if the shares of flips hold."""
        if self.n == 0 or self.point == bound or not -1.0 < bound < 1.0:
            return None
        up, down = self.num_up / self.n, self.num_down / self.n
        spread = math.sqrt(max(up + down - self.point**2, 0.0))
        # The score grows as sqrt(n), its spread at the truth as that of one difference.
        per_root = abs(self._z(bound)) / math.sqrt(self.n)
        null_sd = abs(self.point - bound) / per_root
        quantiles = upper_normal_quantile(alpha) * null_sd + normal_quantile(power) * spread
        needed = (quantiles / abs(self.point - bound)) ** 2
        return max(MIN_QUESTIONS, math.ceil(needed - 1e-9)) if needed < 1e12 else None  # noqa: PLR2004

    def _z(self, bound: float) -> float:
        return tango_score(self.num_up, self.num_down, self.n, bound)


def tango_score(num_up: int, num_down: int, n: int, difference: float) -> float:
    """Tango's score statistic of H0 "the proportions differ by ``difference``".

    Standard normal under H0; positive where the data lie above it.

    References
    ----------
    Tango 1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17, 891-908.

    Examples
    --------
    At 0 it is McNemar's statistic.

    >>> round(tango_score(40, 20, 160, 0.0) ** 2, 6) == round((40 - 20) ** 2 / 60, 6)
    True
    """
    if not -1.0 < difference < 1.0:
        return -math.copysign(math.inf, difference)
    # Largest likelihood under H0: a quadratic in the share of pairs that went down.
    b = -num_up - num_down + (2 * n - num_up + num_down) * difference
    c = -num_down * difference * (1.0 - difference)
    root = math.sqrt(max(b * b - 8.0 * n * c, 0.0))
    # The form without cancellation: b and c change sign on either side of no difference.
    down = (root - b) / (4.0 * n) if b <= 0.0 else -2.0 * c / (root + b)
    variance = n * (2.0 * down + difference * (1.0 - difference))
    distance = num_up - num_down - n * difference
    if distance == 0.0:
        return 0.0
    return distance / math.sqrt(variance) if variance > 0.0 else math.copysign(math.inf, distance)


def tango_interval(num_up: int, num_down: int, n: int, *, confidence: float) -> tuple[float, float]:
    """Tango's score interval of a difference of paired proportions.

    Parameters
    ----------
    num_up, num_down : int
        Discordant pairs: those that went from no to yes, and from yes to no.
    n : int
        All pairs.
    confidence : float
        Two-sided.

    Returns
    -------
    low, high : float
        Never equal, even where no pair is discordant.

    References
    ----------
    Tango 1998, Statistics in Medicine 17, 891-908.

    Examples
    --------
    No flips among fifty questions do not prove that nothing changes:

    >>> low, high = tango_interval(0, 0, 50, confidence=0.9)
    >>> round(low, 3), round(high, 3)
    (-0.051, 0.051)
    """
    assert n > 0, n
    z = upper_normal_quantile(one_sided_level(confidence))
    point = (num_up - num_down) / n

    def low_of(up: int, down: int, middle: float) -> float:
        if middle <= -1.0:
            return -1.0
        return float(
            optimize.brentq(
                lambda at: max(min(tango_score(up, down, n, at), 1e9), -1e9) - z,
                -1.0,
                middle,
                xtol=1e-15,
                rtol=1e-14,
            )
        )

    return low_of(num_up, num_down, point), -low_of(num_down, num_up, -point)


def paired_binary(
    before: Bool[np.ndarray, " question"],
    after: Bool[np.ndarray, " question"],
    *,
    clusters: Clusters | None = None,
    seed: int = 0,
    num_resamples: int = 9999,
) -> Inference:
    """Share of yes after minus share of yes before, on the same questions.

    Parameters
    ----------
    before, after : (question,) bool
        Row by row the same questions.
    clusters, seed, num_resamples
        Flips within a cluster are not independent: with clusters of more than one
        question the cluster means go to ``paired_mean``.

    Returns
    -------
    Inference
        Tango's score interval and the p-values that belong to it.

    Examples
    --------
    >>> before, after = np.ones(100, dtype=bool), np.ones(100, dtype=bool)
    >>> loss = paired_binary(before, after)
    >>> round(loss.estimate(0.9).low, 3)
    -0.026
    >>> loss.p_greater(-0.05) < 0.05
    True
    """
    assert before.shape == after.shape, (before.shape, after.shape)
    assert before.dtype == after.dtype == np.bool_, (before.dtype, after.dtype)
    named = [c for c in clusters or () if c is not None]
    if len(set(named)) < len(named):
        return paired_mean(
            after.astype(np.float64) - before,
            seed=seed,
            num_resamples=num_resamples,
            clusters=clusters,
        )
    return PairedProportions(
        num_up=int((after & ~before).sum()), num_down=int((before & ~after).sum()), n=len(before)
    )


def mcnemar_mid_p(num_up: int, num_down: int) -> float:
    """Two-sided mid-p of McNemar's exact test.

    References
    ----------
    Fagerland, Lydersen and Laake 2013, "The McNemar test for binary matched-pairs
    data: mid-p and asymptotic are better than exact conditional".

    Examples
    --------
    >>> mcnemar_mid_p(0, 0)
    1.0
    >>> round(mcnemar_mid_p(1, 7), 5)
    0.03906
    """
    total, fewer = num_up + num_down, min(num_up, num_down)
    if num_up == num_down:
        return 1.0
    tail = special.bdtr(fewer, total, 0.5)
    point = tail - (special.bdtr(fewer - 1, total, 0.5) if fewer else 0.0)
    return float(2.0 * tail - point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """One proportion, by Clopper and Pearson."""

    seen: int
    n: int
    cross_check: Inference | None = None

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval."""
        alpha = one_sided_level(confidence)
        point = self.seen / self.n if self.n else math.nan
        few = _too_few(self.n)
        low = 0.0 if few else 1.0 - upper_share(self.n - self.seen, self.n, alpha)
        high = 1.0 if few else upper_share(self.seen, self.n, alpha)
        return Estimate(
            point=point,
            low=low,
            high=high,
            confidence=confidence,
            method="Clopper-Pearson",
            n=self.n,
            num_clusters=None,
            seed=None,
            degenerate=few,
            minimum_detectable_effect=math.inf if few else _detectable(low, point, high, alpha),
            monte_carlo_error=0.0,
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "proportion <= bound"."""
        return self._p(self.n - self.seen, 1.0 - bound)

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "proportion >= bound"."""
        return self._p(self.seen, bound)

    def n_needed(self, bound: float, *, alpha: float, power: float = _DEFAULT_POWER) -> int | None:
        """Questions that would decide against ``bound`` if the share seen holds."""
        if self.n == 0 or not 0.0 < bound < 1.0:
            return None
        share = self.seen / self.n
        if share == bound:
            return None
        quantiles = upper_normal_quantile(alpha) * math.sqrt(bound * (1.0 - bound))
        quantiles += normal_quantile(power) * math.sqrt(share * (1.0 - share))
        # Plus one over the distance: the continuity that the exact method pays for.
        distance = abs(share - bound)
        needed = (quantiles / distance) ** 2 + 1.0 / distance
        return max(MIN_QUESTIONS, math.ceil(needed)) if needed < 1e12 else None  # noqa: PLR2004

    def _p(self, seen: int, share: float) -> float:
        """Probability of at most ``seen``, were ``share`` the truth."""
        if _too_few(self.n) or share <= 0.0 or (seen >= self.n and share <= 1.0):
            return 1.0
        return never_zero(special.bdtr(seen, self.n, share) if share < 1.0 else 0.0)


def proportion(seen: int, n: int) -> Inference:
    """Share of ``n`` independent questions, of which ``seen`` were yes.

    References
    ----------
    Clopper and Pearson 1934.

    Examples
    --------
    >>> estimate = proportion(0, 50).estimate(0.9)
    >>> estimate.point, estimate.low, round(estimate.high, 3)
    (0.0, 0.0, 0.058)
    """
    assert 0 <= seen <= n, (seen, n)
    return Proportion(seen=seen, n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class RocArea:
    """Area under the ROC curve, by Newcombe's score method."""

    point: float
    num_positive: int
    num_negative: int
    cross_check: Inference | None = None

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval."""
        alpha = one_sided_level(confidence)
        few = _too_few(min(self.num_positive, self.num_negative))
        low, high = 0.0, 1.0
        if few is None:
            z = upper_normal_quantile(alpha)
            low = self._bound(self.point, z)
            high = 1.0 - self._bound(1.0 - self.point, z)
        return Estimate(
            point=self.point,
            low=low,
            high=high,
            confidence=confidence,
            method="Newcombe score",
            n=self.num_positive + self.num_negative,
            num_clusters=None,
            seed=None,
            degenerate=few,
            minimum_detectable_effect=(
                math.inf if few else _detectable(low, self.point, high, alpha)
            ),
            monte_carlo_error=0.0,
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "area <= bound"."""
        return self._p(self.point, bound)

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "area >= bound"."""
        return self._p(1.0 - self.point, 1.0 - bound)

    def n_needed(self, bound: float, *, alpha: float, power: float = _DEFAULT_POWER) -> int | None:
        """Questions that would decide against ``bound`` if the area holds."""
        if not math.isfinite(self.point) or self.point == bound or not 0.0 < bound < 1.0:
            return None
        n = self.num_positive + self.num_negative
        quantiles = upper_normal_quantile(alpha) * self._sd(bound)
        quantiles += normal_quantile(power) * self._sd(self.point)
        return max(2 * MIN_QUESTIONS, math.ceil(n * (quantiles / (self.point - bound)) ** 2))

    def _p(self, area: float, bound: float) -> float:
        if _too_few(min(self.num_positive, self.num_negative)) or bound >= 1.0:
            return 1.0
        if bound <= 0.0:
            return 1.0 if area <= bound else never_zero(0.0)
        return never_zero(special.ndtr((bound - area) / self._sd(bound)))

    def _sd(self, area: float) -> float:
        """Hanley and McNeil's standard error, with both groups' size replaced by the mean."""
        pairs = self.num_positive * self.num_negative
        size = (self.num_positive + self.num_negative) / 2.0 - 1.0
        odd = (1.0 - area) / (2.0 - area) + area / (1.0 + area)
        return math.sqrt(max(area * (1.0 - area) * (1.0 + size * odd) / pairs, 0.0))

    def _bound(self, area: float, z: float) -> float:
        if area <= 0.0:
            return 0.0
        # Short of the area itself, where an area of 1 would have no spread left.
        end = area * (1.0 - 1e-12)
        return float(optimize.brentq(lambda at: area - at - z * self._sd(at), 0.0, end))


def auc(
    positive: Float64[np.ndarray, " positive"], negative: Float64[np.ndarray, " negative"]
) -> Inference:
    """Probability that a positive item scores above a negative one, ties counting half.

    A constant added to every score cancels: what a letter preference cannot fake.

    References
    ----------
    Newcombe 2006, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2", Statistics in Medicine 25, 559-573 (method 5).

    Examples
    --------
    >>> area = auc(np.array([0.9, 0.8, 0.7, 0.6, 0.4]), np.array([0.5, 0.3, 0.2, 0.1, 0.0]))
    >>> area.estimate(0.95).point
    0.96
    """
    assert np.isfinite(positive).all()
    assert np.isfinite(negative).all()
    if not len(positive) or not len(negative):
        point = math.nan
    else:
        ordered = np.sort(negative)
        below = np.searchsorted(ordered, positive, side="left")
        not_above = np.searchsorted(ordered, positive, side="right")
        point = float((below + not_above).sum() / (2 * len(positive) * len(negative)))
    return RocArea(point=point, num_positive=len(positive), num_negative=len(negative))
