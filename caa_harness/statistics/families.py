"""Many claims and many draws: Holm's correction, null distributions, doses.

Arrays of p-values, of what random vectors did, or of scores over multipliers
go in; adjusted levels, an ``Inference`` against the null, or per-question slopes
and steps come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
)

if TYPE_CHECKING:
    from jaxtyping import Float64


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    A claim is rejected at family-wise error rate a exactly when its adjusted p is
    at most a, whatever the dependence between the claims.

    References
    ----------
    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    assert all(0.0 <= p <= 1.0 for p in p_values), p_values
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(_ascending(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_divisors(p_values: Sequence[float], *, alpha: float) -> list[int]:
    """By what number each claim's error rate was divided when it was judged.

    Rejected claims: one less for each claim rejected before.  All others: the
    divisor at which the procedure stopped.  So ``p <= alpha / divisor`` exactly for the
    rejected, and an interval at that level never contradicts the outcome.

    Examples
    --------
    >>> holm_divisors([0.001, 0.2, 0.012], alpha=0.025)
    [3, 1, 2]
    >>> holm_divisors([0.001, 0.2, 0.02], alpha=0.025)
    [3, 2, 2]
    """
    divisors = [0] * len(p_values)
    adjusted = holm(p_values)
    stopped = None
    for rank, index in enumerate(_ascending(p_values)):
        if stopped is None and adjusted[index] > alpha:
            stopped = len(p_values) - rank
        divisors[index] = len(p_values) - rank if stopped is None else stopped
    return divisors


def _ascending(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda index: p_values[index])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullRank:
    """One observed number against what draws from the null gave.

    The parameter is the observed number minus the mean of the null.  Its p is that
    of a further draw from a normal null (Student's t with the draws' spread), which
    can fall below ``1 / (draws + 1)``; ``rank_p_greater`` is the one that assumes
    nothing but exchangeability, and cannot.
    """

    observed: float
    draws: Float64[np.ndarray, " draw"]
    value_range: ValueRange
    cross_check: Inference | None = None

    @property
    def rank_p_greater(self) -> float:
        """(1 + draws at least as large) / (draws + 1)."""
        return self._rank_p_greater(0.0)

    @property
    def rank_p_less(self) -> float:
        """(1 + draws at least as small) / (draws + 1)."""
        return self._rank_p_less(0.0)

    def estimate(self, confidence: float) -> Estimate:
        """Observed minus mean of the null, with the spread of a further draw."""
        number, alpha = len(self.draws), one_sided_level(confidence)
        reason = self._degenerate()
        point = self.observed - float(self.draws.mean()) if number else math.nan
        low, high = self.value_range
        mde = math.inf
        if reason is None:
            spread = self._spread()
            reach = -float(special.stdtrit(number - 1, alpha)) * spread
            low, high = max(point - reach, low), min(point + reach, high)
            mde = minimum_detectable_effect(spread * math.sqrt(number), number, alpha=alpha)
        return Estimate(
            point=point,
            low=low,
            high=high,
            confidence=confidence,
            method="t of a further draw",
            n=number,
            num_clusters=None,
            seed=None,
            degenerate=reason,
            minimum_detectable_effect=mde,
            monte_carlo_error=0.0,
        )

    def p_greater(self, bound: float) -> float:
        """One-sided p of H0 "observed minus null <= bound"."""
        if self._degenerate() is not None:
            return self._rank_p_greater(bound)
        distance = self.observed - float(self.draws.mean()) - bound
        return never_zero(special.stdtr(len(self.draws) - 1, -distance / self._spread()))

    def p_less(self, bound: float) -> float:
        """One-sided p of H0 "observed minus null >= bound"."""
        if self._degenerate() is not None:
            return self._rank_p_less(bound)
        distance = self.observed - float(self.draws.mean()) - bound
        return never_zero(special.stdtr(len(self.draws) - 1, distance / self._spread()))

    def n_needed(self, bound: float, *, alpha: float, power: float = 0.8) -> int | None:  # noqa: ARG002
        """Return ``None``: more draws narrow the null's mean, not its spread."""
        return None

    def _rank_p_greater(self, bound: float) -> float:
        return float(1 + (self.draws + bound >= self.observed).sum()) / (1 + len(self.draws))

    def _rank_p_less(self, bound: float) -> float:
        return float(1 + (self.draws + bound <= self.observed).sum()) / (1 + len(self.draws))

    def _spread(self) -> float:
        return float(self.draws.std(ddof=1)) * math.sqrt(1.0 + 1.0 / len(self.draws))

    def _degenerate(self) -> str | None:
        number = len(self.draws)
        if number < MIN_QUESTIONS:
            return f"{number} draws from the null are fewer than {MIN_QUESTIONS}"
        scale = max(1.0, float(np.abs(self.draws).max()))
        if float(np.ptp(self.draws)) <= 1e-12 * scale:
            return f"all {number} draws from the null are {float(self.draws[0]):.4g}"
        return None


def null_rank(
    observed: float, draws: Float64[np.ndarray, " draw"], *, value_range: ValueRange = (-2.0, 2.0)
) -> NullRank:
    """Compare one number with the same number under vectors that should do nothing.

    Parameters
    ----------
    observed : float
        Such as the mean shift under the steering vector.
    draws : (draw,) float64
        The same under random directions of equal norm, or shuffled labels.
    value_range
        Smallest and largest possible difference of two such numbers.

    References
    ----------
    Phipson and Smyth 2010, "Permutation p-values should never be zero".

    Examples
    --------
    >>> null = null_rank(0.3, np.linspace(-0.1, 0.1, 39))
    >>> null.rank_p_greater
    0.025
    >>> null.p_greater(0.0) < 1e-4
    True
    """
    draws = np.sort(np.asarray(draws, dtype=np.float64))
    assert math.isfinite(observed), observed
    assert np.isfinite(draws).all()
    return NullRank(observed=float(observed), draws=draws, value_range=value_range)


def dose_slopes(
    scores: Float64[np.ndarray, "multiplier question"], multipliers: Sequence[float]
) -> Float64[np.ndarray, " question"]:
    """Least-squares slope of each question's score over the multipliers.

    Returns
    -------
    (question,) float64
        Score per unit of multiplier; ``slope_range`` says how steep one can be.

    Examples
    --------
    >>> dose_slopes(np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]]), [-1, 0, 1]).round(12)
    array([0.1, 0. ])
    """
    weights = _slope_weights(multipliers)
    assert scores.ndim == 2, scores.shape  # noqa: PLR2004
    assert len(scores) == len(weights), (scores.shape, multipliers)
    return np.einsum("m,mq->q", weights, np.asarray(scores, dtype=np.float64))


def slope_range(multipliers: Sequence[float]) -> ValueRange:
    """Smallest and largest slope that scores in [0, 1] can have.

    Examples
    --------
    >>> slope_range([-1, 0, 1])
    (-0.5, 0.5)
    """
    weights = _slope_weights(multipliers)
    return float(weights[weights < 0.0].sum()), float(weights[weights > 0.0].sum())


def adjacent_steps(
    scores: Float64[np.ndarray, "multiplier question"],
) -> Float64[np.ndarray, "step question"]:
    """Each question's change from one multiplier to the next.

    Examples
    --------
    >>> adjacent_steps(np.array([[0.25], [0.5], [0.375]]))
    array([[ 0.25 ],
           [-0.125]])
    """
    return np.diff(np.asarray(scores, dtype=np.float64), axis=0)


def _slope_weights(multipliers: Sequence[float]) -> Float64[np.ndarray, " multiplier"]:
    centred = np.asarray(multipliers, dtype=np.float64)
    centred = centred - centred.mean()
    assert (centred != 0.0).any(), multipliers
    return centred / (centred**2).sum()
