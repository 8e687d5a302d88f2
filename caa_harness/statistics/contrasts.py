"""Two samples: how one mean compares with a share of another.

Two sets of different questions go in, an ``Inference`` about the weighted sum
of their means comes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from caa_harness.statistics.inference import (
    Estimate,
    Inference,
    ValueRange,
    one_sided_level,
    p_by_inversion,
)
from caa_harness.statistics.means import (
    CROSS_CHECK_BELOW,
    Clusters,
    RankedMean,
    StudentMean,
    UndecidedMean,
    independent_values,
    paired_mean,
)
from caa_harness.statistics.resampling import (
    Values,
    bounds_of,
    exact_mean,
    two_sample_bootstrap_t,
)


def two_sample_mean(
    own: Values,
    other: Values,
    *,
    share: float,
    sign: Literal[-1, 1] = -1,
    seed: int,
    num_resamples: int,
    own_clusters: Clusters | None = None,
    other_clusters: Clusters | None = None,
    own_range: ValueRange = (-1.0, 1.0),
    other_range: ValueRange = (-1.0, 1.0),
) -> Inference:
    """``share * mean(own) + sign * mean(other)`` of two independent samples.

    What a claim such as "other questions move at most half as much" needs: both
    ``share * own - other`` and ``share * own + other`` must lie above 0.

    Parameters
    ----------
    own, other : (value,) float64
        Two sets of different questions, finite, of any two sizes.
    share : float
        Positive weight of ``own``.
    sign
        -1 subtracts the mean of ``other``, +1 adds it.
    seed, num_resamples, own_clusters, other_clusters, own_range, other_range
        As for ``paired_mean``.

    Returns
    -------
    Inference
        Studentised two-sample bootstrap with Welch's t as ``cross_check`` where either
        sample has fewer than 50 independent values.  Where either is too small or too
        uniform for that: both one-sample intervals, each at half the error rate.
        ``n`` counts the questions of both samples.

    References
    ----------
    Welch 1947; Davison and Hinkley 1997, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> own, other = np.linspace(0.2, 0.4, 30), np.linspace(-0.05, 0.15, 60)
    >>> room = two_sample_mean(own, other, share=0.5, seed=1, num_resamples=999)
    >>> round(room.estimate(0.95).point, 3), room.p_greater(0.0) < 0.025
    (0.1, True)
    """
    assert share > 0.0, share
    # Adding 0 turns the -0.0 of a mirrored 0 back.
    mirrored, mirrored_range = sign * other + 0.0, _scaled(other_range, sign)
    single = [
        paired_mean(values, seed=seed, num_resamples=num_resamples, clusters=of, value_range=within)
        for values, of, within in (
            (own, own_clusters, own_range),
            (mirrored, other_clusters, mirrored_range),
        )
    ]
    num_clusters = _total(own, own_clusters, other, other_clusters)
    value_range = (
        share * own_range[0] + mirrored_range[0],
        share * own_range[1] + mirrored_range[1],
    )
    if any(isinstance(one, UndecidedMean) for one in single):
        return UndecidedMean(
            point=share * exact_mean(own) + exact_mean(mirrored),
            sd=math.nan,
            num_values=min(_num_values(own, own_clusters), _num_values(other, other_clusters)),
            n=len(own) + len(other),
            num_clusters=num_clusters,
            value_range=value_range,
        )
    regular = [s for s in single if isinstance(s, RankedMean) and s.seed is not None]
    if len(regular) < len(single):
        return SumOfMeans(
            own=single[0],
            other=single[1],
            share=share,
            value_range=value_range,
            num_clusters=num_clusters,
        )
    first, second = regular
    weighted = [share**2 * first.se**2, second.se**2]
    df = sum(weighted) ** 2 / sum(
        w**2 / (s.num_values - 1) for w, s in zip(weighted, regular, strict=True)
    )
    num_values = first.num_values + second.num_values
    sample: dict[str, Any] = {
        "point": share * first.point + second.point,
        "sd": math.sqrt(sum(weighted) * num_values),
        "num_values": num_values,
        "n": first.n + second.n,
        "num_clusters": num_clusters,
        "value_range": value_range,
    }
    welch = StudentMean(**sample, df=df, method="Welch t")
    t = two_sample_bootstrap_t(
        share * independent_values(own, own_clusters, own_range)[0],
        independent_values(mirrored, other_clusters, mirrored_range)[0],
        seed=seed,
        num_resamples=num_resamples,
    )
    smallest = min(s.num_values for s in regular)
    return RankedMean(
        **sample,
        candidates=bounds_of(welch.point, welch.se, t, welch.value_range),
        method="two-sample bootstrap-t",
        seed=seed,
        cross_check=welch if smallest < CROSS_CHECK_BELOW else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SumOfMeans:
    """``share * own + other`` where one of the two cannot be resampled: half the error each."""

    own: Inference
    other: Inference
    share: float
    value_range: ValueRange
    num_clusters: int | None
    cross_check: Inference | None = None

    def estimate(self, confidence: float) -> Estimate:
        """Point and two-sided interval, the sum of two of the halved error rate."""
        halved = 1.0 - one_sided_level(confidence)
        own, other = self.own.estimate(halved), self.other.estimate(halved)
        low = max(self.share * own.low + other.low, self.value_range[0])
        high = min(self.share * own.high + other.high, self.value_range[1])
        point = self.share * own.point + other.point
        reasons = [part.degenerate for part in (own, other) if part.degenerate is not None]
        return replace(
            own,
            point=point,
            low=low,
            high=high,
            confidence=confidence,
            method=f"sum of intervals ({own.method}; {other.method})",
            n=own.n + other.n,
            num_clusters=self.num_clusters,
            seed=own.seed if own.seed is not None else other.seed,
            degenerate="; ".join(reasons) or None,
            minimum_detectable_effect=(
                self.share * own.minimum_detectable_effect + other.minimum_detectable_effect
            ),
            monte_carlo_error=math.hypot(
                self.share * own.monte_carlo_error, other.monte_carlo_error
            ),
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "sum <= bound"."""
        return p_by_inversion(lambda a: self.estimate(1.0 - 2.0 * a).low, bound)

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "sum >= bound"."""
        return p_by_inversion(lambda a: -self.estimate(1.0 - 2.0 * a).high, -bound)

    def n_needed(self, bound: float, *, alpha: float, power: float = 0.8) -> int | None:
        """Questions that would decide if each mean used half of the distance."""
        own, other = self.own.estimate(0.95).point, self.other.estimate(0.95).point
        half = (self.share * own + other - bound) / 2.0
        needed = [
            self.own.n_needed(own - half / self.share, alpha=alpha / 2.0, power=power),
            self.other.n_needed(other - half, alpha=alpha / 2.0, power=power),
        ]
        known = [n for n in needed if n is not None]
        return sum(known) if len(known) == len(needed) else None


def _total(
    own: Values, own_clusters: Clusters | None, other: Values, other_clusters: Clusters | None
) -> int | None:
    """Count the clusters of both samples; ``None`` where nothing is clustered."""
    counts = [_num_values(own, own_clusters), _num_values(other, other_clusters)]
    return None if counts == [len(own), len(other)] else sum(counts)


def _num_values(values: Values, clusters: Clusters | None) -> int:
    if clusters is None:
        return len(values)
    named = [cluster for cluster in clusters if cluster is not None]
    return len(set(named)) + len(clusters) - len(named)


def _scaled(value_range: ValueRange, sign: int) -> ValueRange:
    low, high = value_range
    return (low, high) if sign > 0 else (-high, -low)
