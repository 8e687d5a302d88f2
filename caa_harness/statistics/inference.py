"""Inferences: what every statistical question of the harness can be asked.

An ``Inference`` knows one parameter and answers three questions about it: how
large it is (with an interval at any confidence), whether it lies above or below
a bound (one-sided p that agrees with that interval), and how many questions
would settle it.  Nothing here draws a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from scipy import optimize, special, stats

ValueRange = tuple[float, float]
"""Smallest and largest value that one question can have; what no sample can rule out."""

MIN_QUESTIONS = 5
"""Below this many independent values nothing is decided."""

_SLACK = 1e-9
"""Levels that differ by less than this share are one level (``1 - 2 * a`` and back)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its uncertainty.

    ``point`` is NaN where there is no question at all; ``minimum_detectable_effect``
    is infinite where no distance could be found.
    """

    point: float
    low: float
    high: float
    confidence: float
    """Two-sided coverage of ``[low, high]``; each end misses with half of the rest."""
    method: str
    n: int
    """Questions (``num_clusters``, where set, counts the independent groups of them)."""
    num_clusters: int | None
    seed: int | None
    degenerate: str | None
    """Why the data cannot carry the usual method, or ``None``."""
    minimum_detectable_effect: float
    """Distance from a bound that this n finds with 80 % power at this confidence."""
    monte_carlo_error: float
    """Standard error of ``low``/``high`` due to resampling; 0 where nothing is drawn."""

    def is_close_call(self, bound: float) -> bool:
        """Whether another seed could move ``low`` or ``high`` across ``bound``.

        True within two Monte Carlo standard errors; never where nothing is drawn.
        """
        reach = 2.0 * self.monte_carlo_error
        return reach > 0.0 and min(abs(self.low - bound), abs(self.high - bound)) <= reach


class Inference(Protocol):
    """One parameter, inferred once, asked about as often as one likes."""

    @property
    def cross_check(self) -> Inference | None:
        """A second method that must agree, where the sample is small; else ``None``."""
        ...

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval."""
        ...

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "parameter <= bound"; <= a exactly when the (1-2a) low > bound."""
        ...

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "parameter >= bound"; mirrors ``p_greater``."""
        ...

    def n_needed(self, bound: float, *, alpha: float, power: float = 0.8) -> int | None:
        """Questions that would decide against ``bound`` if the point estimate holds."""
        ...


def one_sided_level(confidence: float) -> float:
    """Error rate of each end of a two-sided interval.

    Examples
    --------
    >>> round(one_sided_level(0.95), 12)
    0.025
    """
    assert 0.0 < confidence < 1.0, confidence
    return (1.0 - confidence) / 2.0


def whole_steps(alpha: float, steps: int) -> int:
    """Largest k with ``k / steps <= alpha``, blind to the last bits of ``alpha``."""
    return math.floor(alpha * steps * (1.0 + _SLACK))


def upper_share(seen: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson upper limit of a share of which ``seen`` in ``n`` were seen.

    Examples
    --------
    The rule of three: nothing seen in 50.

    >>> round(upper_share(0, 50, 0.05), 3)
    0.058
    """
    return 1.0 if seen >= n else float(special.betaincinv(seen + 1, n - seen, 1.0 - alpha))


def never_zero(p: float) -> float:
    """Keep a p that underflows apart from certainty."""
    return max(float(p), 1e-300)


def normal_quantile(probability: float) -> float:
    """Inverse of the standard normal distribution function."""
    return float(special.ndtri(probability))


def upper_normal_quantile(alpha: float) -> float:
    """Point that a standard normal exceeds with probability ``alpha``."""
    return -float(special.ndtri(alpha))


@lru_cache(maxsize=4096)
def _detectable_ratio(num_values: int, alpha: float, power: float) -> float:
    """Find the detectable distance of a one-sided t test, in standard errors (noncentral t)."""
    df = num_values - 1
    critical = -float(special.stdtrit(df, alpha))
    start = critical + upper_normal_quantile(1.0 - power)
    # The noncentral t's own functions lose digits far out, where the normal is as good.
    if df < 3 or critical > 30.0:  # noqa: PLR2004
        return start

    def shortfall(distance: float) -> float:
        return float(stats.nct.sf(critical, df, distance)) - power

    low, high = 0.5 * start, 2.0 * start
    if not shortfall(low) < 0.0 < shortfall(high):
        return start
    return float(optimize.brentq(shortfall, low, high, xtol=1e-6))


def minimum_detectable_effect(sd: float, n: int, *, alpha: float, power: float = 0.8) -> float:
    """Distance from a bound that a one-sided t test of ``n`` values finds.

    Parameters
    ----------
    sd : float
        Standard deviation of one value, in its own unit.
    n : int
        Independent values.
    alpha : float
        One-sided error rate.
    power : float
        How often the distance must be found.

    Returns
    -------
    float
        Same unit as ``sd``; infinite for fewer than two values.

    References
    ----------
    Noncentral t; Cohen 1988, "Statistical Power Analysis", chapter 2.

    Examples
    --------
    >>> round(minimum_detectable_effect(1.0, 50, alpha=0.025), 3)
    0.404
    """
    assert 0.0 < alpha < 1.0, alpha
    if n < 2:  # noqa: PLR2004
        return math.inf
    return _detectable_ratio(n, alpha, power) * sd / math.sqrt(n)


def required_n(sd: float, distance: float, *, alpha: float, power: float = 0.8) -> int | None:
    """Smallest number of values with which a one-sided t test finds ``distance``.

    Returns
    -------
    int or None
        At least 5, below which nothing is decided; ``None`` for no distance.

    Examples
    --------
    >>> required_n(0.1, 0.05, alpha=0.05)
    27
    >>> required_n(0.1, 0.0, alpha=0.05) is None
    True
    """
    if not distance > 0.0 or not math.isfinite(distance):
        return None
    quantiles = upper_normal_quantile(alpha) + upper_normal_quantile(1.0 - power)
    ratio = quantiles * sd / distance
    if ratio > 1e6:  # noqa: PLR2004
        return None
    n = max(MIN_QUESTIONS, math.ceil(ratio**2))
    while minimum_detectable_effect(sd, n, alpha=alpha, power=power) > distance:
        n += max(1, n // 1000)
    return n


def p_by_inversion(low: Callable[[float], float], bound: float) -> float:
    """Smallest level at which ``low(level)``, a lower bound, exceeds ``bound``.

    For inferences whose interval is simple and whose p is not.  ``low`` must not
    fall as the level grows.  Levels above one half are not told apart: 1 then.
    """
    inside, outside = 0.499, 1e-15
    if not low(inside) > bound:
        return 1.0
    if low(outside) > bound:
        return outside
    for _ in range(64):
        middle = math.sqrt(inside * outside)
        if low(middle) > bound:
            inside = middle
        else:
            outside = middle
    return inside
