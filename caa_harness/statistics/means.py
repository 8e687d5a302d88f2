"""Means of per-question numbers: levels, or differences between two runs.

One number per question goes in, an ``Inference`` about
their mean comes out.  Ten values and more are resampled (studentised bootstrap),
five to nine are sign-flipped exactly, fewer decide nothing, and values that are
all alike get an interval from what no sample of this size can rule out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from caa_harness.statistics.inference import (
    MIN_QUESTIONS,
    Estimate,
    Inference,
    ValueRange,
    minimum_detectable_effect,
    never_zero,
    one_sided_level,
    required_n,
    upper_share,
    whole_steps,
)
from caa_harness.statistics.resampling import (
    Values,
    bootstrap_t,
    bounds_of,
    exact_mean,
    exact_sd,
    subset_means,
)

MIN_BOOTSTRAP = 10
"""From this many independent values on, the mean is bootstrapped."""
CROSS_CHECK_BELOW = 50
"""Below this many, Student's t must agree with the bootstrap."""
MIN_DIFFERENT = 10
"""With fewer values away from the commonest one, resampling sees too little."""

Clusters = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """What every inference about one mean knows of its values."""

    point: float
    sd: float
    num_values: int
    n: int
    num_clusters: int | None
    value_range: ValueRange
    cross_check: Inference | None = None

    @property
    def se(self) -> float:
        return self.sd / math.sqrt(self.num_values)

    def n_needed(self, bound: float, *, alpha: float, power: float = 0.8) -> int | None:
        """Questions that would decide against ``bound`` if point and spread hold."""
        if not math.isfinite(self.sd) or not math.isfinite(self.point):
            return None
        needed = required_n(self.sd, abs(self.point - bound), alpha=alpha, power=power)
        # Clusters count as one value each, so more of them means more questions.
        return None if needed is None else math.ceil(needed * self.n / self.num_values)

    def _estimate(
        self,
        confidence: float,
        low: float,
        high: float,
        *,
        method: str,
        mde: float | None = None,
        monte_carlo_error: float = 0.0,
        seed: int | None = None,
        degenerate: str | None = None,
    ) -> Estimate:
        if mde is None:
            alpha = one_sided_level(confidence)
            mde = minimum_detectable_effect(self.sd, self.num_values, alpha=alpha)
        return Estimate(
            point=self.point,
            low=low,
            high=high,
            confidence=confidence,
            method=method if self.num_clusters is None else f"{method} of cluster means",
            n=self.n,
            num_clusters=self.num_clusters,
            seed=seed,
            degenerate=degenerate,
            minimum_detectable_effect=mde,
            monte_carlo_error=monte_carlo_error,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentMean(_Sample):
    """Student's t, or Welch's where the standard error has its own degrees of freedom."""

    df: float
    method: str = "t"

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval."""
        reach = -float(special.stdtrit(self.df, one_sided_level(confidence))) * self.se
        low, high = self.value_range
        return self._estimate(
            confidence,
            max(self.point - reach, low),
            min(self.point + reach, high),
            method=self.method,
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "mean <= bound"."""
        return never_zero(special.stdtr(self.df, (bound - self.point) / self.se))

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "mean >= bound"."""
        return never_zero(special.stdtr(self.df, (self.point - bound) / self.se))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedMean(_Sample):
    """A mean judged by where a bound falls among equally likely candidates.

    Each resample (or each set of flipped signs) gives one candidate for the mean.
    The bound is rejected at level a when fewer than ``a * (number + 1)`` candidates
    lie on its other side, so interval and p read the same order statistics.
    """

    candidates: Values
    """In ascending order."""
    method: str
    seed: int | None

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval."""
        steps = len(self.candidates) + 1
        k = whole_steps(one_sided_level(confidence), steps)
        if k == 0:
            low, high = self.value_range
            drawn = "resamples" if self.seed is not None else "sign patterns"
            alpha = one_sided_level(confidence)
            return self._estimate(
                confidence,
                low,
                high,
                method=self.method,
                seed=self.seed,
                mde=math.inf,
                degenerate=(
                    f"{steps} {drawn} of {self.num_values} values "
                    f"cannot resolve a one-sided level of {alpha:.2g}"
                ),
            )
        low = min(float(self.candidates[k - 1]), self.point)
        high = max(float(self.candidates[-k]), self.point)
        return self._estimate(
            confidence,
            low,
            high,
            method=self.method,
            seed=self.seed,
            mde=self._detectable(max(self.point - low, high - self.point), confidence),
            monte_carlo_error=self._monte_carlo_error(k),
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "mean <= bound"."""
        beyond = int(np.searchsorted(self.candidates, bound, side="right"))
        p = (1 + beyond) / (len(self.candidates) + 1)
        return p if self.point > bound else max(p, 0.5)

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "mean >= bound"."""
        number = len(self.candidates)
        beyond = number - int(np.searchsorted(self.candidates, bound, side="left"))
        p = (1 + beyond) / (number + 1)
        return p if self.point < bound else max(p, 0.5)

    def _detectable(self, arm: float, confidence: float) -> float:
        """Stretch the longer arm to the power; never less than Student's t would need."""
        alpha = one_sided_level(confidence)
        effect = minimum_detectable_effect(self.sd, self.num_values, alpha=alpha)
        reach = -float(special.stdtrit(self.num_values - 1, alpha)) * self.se
        return effect * max(1.0, arm / reach)

    def _monte_carlo_error(self, k: int) -> float:
        """Half the distance between the order statistics one standard error either way."""
        if self.seed is None:
            return 0.0
        number = len(self.candidates)
        spread = math.sqrt(k * (1.0 - k / (number + 1)))
        inner = min(number, math.ceil(k + spread))
        outer = max(1, math.floor(k - spread))
        ends = self.candidates[[outer - 1, inner - 1, -inner, -outer]]
        return float(max(ends[1] - ends[0], ends[3] - ends[2]) / 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseMean(_Sample):
    """A mean of values that are (nearly) all alike.

    The spread of such a sample says little: what matters is how often a value that
    was hardly seen could occur, times how far it could lie.  With ``num_below``
    values below the commonest one, the mean is at least ``commonest - (commonest
    - smallest possible) * (Clopper-Pearson upper limit of the share below)``, and
    likewise above.  Both ends hold whatever the distribution.
    """

    commonest: float
    num_below: int
    num_above: int

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval."""
        alpha = one_sided_level(confidence)
        low, high = self._low(alpha), self._high(alpha)
        return self._estimate(
            confidence,
            low,
            high,
            method="Clopper-Pearson x range",
            mde=max(self.point - low, high - self.point),
            degenerate=self._reason(),
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "mean <= bound"."""
        return self._p(self.commonest - bound, self.commonest - self.value_range[0], self.num_below)

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "mean >= bound"."""
        return self._p(bound - self.commonest, self.value_range[1] - self.commonest, self.num_above)

    def n_needed(self, bound: float, *, alpha: float, power: float = 0.8) -> int | None:  # noqa: ARG002
        """Questions that would decide against ``bound`` if the shares seen here hold."""
        low, high = self.value_range
        above = self.commonest > bound
        seen = self.num_below if above else self.num_above
        distance = abs(self.commonest - bound)
        reach = self.commonest - low if above else high - self.commonest
        if distance == 0.0 or not math.isfinite(reach) or reach <= 0.0:
            return None
        share = min(distance / reach, 1.0)
        if seen / self.num_values >= share:
            return None
        n = MIN_QUESTIONS
        while special.bdtr(math.ceil(seen * n / self.num_values), n, share) > alpha:
            n += max(1, n // 50)
            if n > 10**7:
                return None
        return math.ceil(n * self.n / self.num_values)

    def _low(self, alpha: float) -> float:
        reach = self.commonest - self.value_range[0]
        return self.commonest - reach * upper_share(self.num_below, self.num_values, alpha)

    def _high(self, alpha: float) -> float:
        reach = self.value_range[1] - self.commonest
        return self.commonest + reach * upper_share(self.num_above, self.num_values, alpha)

    def _p(self, distance: float, reach: float, seen: int) -> float:
        """Probability of so few values on that side, were the bound the truth."""
        if distance <= 0.0:
            return 1.0
        share = distance / reach if distance < reach else 1.0
        return never_zero(special.bdtr(seen, self.num_values, share))

    def _reason(self) -> str:
        different = self.num_below + self.num_above
        if different == 0:
            return f"all {self.num_values} values are {self.commonest:.4g}"
        return f"only {different} of {self.num_values} values differ from {self.commonest:.4g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndecidedMean(_Sample):
    """Too few values: the whole range, and no bound rejected."""

    def estimate(self, confidence: float) -> Estimate:
        """Point and the whole range."""
        return self._estimate(
            confidence,
            *self.value_range,
            method="none",
            mde=math.inf,
            degenerate=f"{self.num_values} independent values are fewer than {MIN_QUESTIONS}",
        )

    def p_greater(self, bound: float) -> float:  # noqa: ARG002
        """Return 1: nothing is rejected."""
        return 1.0

    def p_less(self, bound: float) -> float:  # noqa: ARG002
        """Return 1: nothing is rejected."""
        return 1.0


def paired_mean(
    differences: Values,
    *,
    seed: int,
    num_resamples: int,
    clusters: Clusters | None = None,
    value_range: ValueRange = (-1.0, 1.0),
) -> Inference:
    """Mean of one number per question: a difference between two runs, or a level.

    Parameters
    ----------
    differences : (question,) float64
        Finite; questions that could not be scored are left out by the caller.
    seed, num_resamples
        Of the bootstrap.  The same seed gives the same bytes, whatever the order
        of the questions.
    clusters
        Name of each question's cluster; ``None`` entries stand alone.  The unit is
        then the cluster: its mean is one value, and the point is the mean of those.
    value_range
        Smallest and largest possible value of one question.  Bounds of the interval
        stay inside, and it is what an invariable sample cannot rule out.

    Returns
    -------
    Inference
        By number of independent values: fewer than 5 decide nothing; 5 to 9 exact
        sign-flip test (Student's t for clusters); from 10 the studentised bootstrap,
        with Student's t as ``cross_check`` below 50.  Where the values are nearly all
        alike: Clopper-Pearson times the range.

    References
    ----------
    Hesterberg 2015, "What Teachers Should Know About the Bootstrap";
    Davison and Hinkley 1997, "Bootstrap Methods and Their Application", section 5.2.

    Examples
    --------
    >>> shifts = np.linspace(0.05, 0.25, 40)
    >>> shift = paired_mean(shifts, seed=1, num_resamples=999)
    >>> estimate = shift.estimate(0.95)
    >>> round(estimate.point, 3), round(estimate.low, 2), round(estimate.high, 2)
    (0.15, 0.13, 0.17)
    >>> shift.p_greater(0.1) <= 0.025 and estimate.low > 0.1
    True

    Ten questions that did not move at all still leave room for one that does:

    >>> still = paired_mean(np.zeros(10), seed=1, num_resamples=999).estimate(0.9)
    >>> round(still.low, 3), round(still.high, 3), still.degenerate
    (-0.259, 0.259, 'all 10 values are 0')
    """
    values, num_clusters = independent_values(differences, clusters, value_range)
    n = len(differences)
    sample: dict[str, Any] = {
        "point": exact_mean(values),
        "sd": exact_sd(values),
        "num_values": len(values),
        "n": n,
        "num_clusters": num_clusters,
        "value_range": value_range,
    }
    if len(values) < MIN_QUESTIONS:
        return UndecidedMean(**sample)
    commonest, num_below, num_above = _commonest(values)
    if num_below + num_above < MIN_DIFFERENT and 2 * (num_below + num_above) < len(values):
        return SparseMean(**sample, commonest=commonest, num_below=num_below, num_above=num_above)
    student = StudentMean(**sample, df=len(values) - 1)
    if len(values) < MIN_BOOTSTRAP:
        if num_clusters is not None:
            return student
        return RankedMean(**sample, candidates=subset_means(values), method="sign-flip", seed=None)
    t = bootstrap_t(values, seed=seed, num_resamples=num_resamples)
    return RankedMean(
        **sample,
        candidates=bounds_of(student.point, student.se, t, value_range),
        method="bootstrap-t",
        seed=seed,
        cross_check=student if len(values) < CROSS_CHECK_BELOW else None,
    )


def independent_values(
    numbers: Values, clusters: Clusters | None, value_range: ValueRange
) -> tuple[Values, int | None]:
    """Sort the values, one per cluster, so that the questions' order cannot show."""
    numbers = np.asarray(numbers, dtype=np.float64)
    assert numbers.ndim == 1, numbers.shape
    assert np.isfinite(numbers).all(), "unscored questions are left out by the caller"
    slack = 1e-6 * (1.0 + np.abs(numbers).max(initial=0.0))
    assert (numbers >= value_range[0] - slack).all(), (numbers.min(), value_range)
    assert (numbers <= value_range[1] + slack).all(), (numbers.max(), value_range)
    ordered = np.sort(numbers)
    if clusters is None:
        return ordered, None
    assert len(clusters) == len(numbers), (len(clusters), len(numbers))
    members: dict[str | int, list[float]] = {}
    for row, (cluster, number) in enumerate(zip(clusters, numbers.tolist(), strict=True)):
        members.setdefault(row if cluster is None else cluster, []).append(number)
    if len(members) == len(numbers):
        return ordered, None
    means = np.sort([math.fsum(of) / len(of) for of in members.values()])
    return means, len(means)


def _commonest(values: Values) -> tuple[float, int, int]:
    """Return the commonest value and how many values lie below and above it."""
    distinct, counts = np.unique(values, return_counts=True)
    commonest = distinct[np.argmax(counts)]
    # Rounding noise is not variation: equal shifts of different levels differ in the last bits.
    slack = 1e-12 * max(1.0, abs(float(commonest)))
    below = int((values < commonest - slack).sum())
    above = int((values > commonest + slack).sum())
    return float(commonest), below, above
