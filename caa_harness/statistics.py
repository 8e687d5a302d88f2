"""Statistics: per-question numbers in, estimates with intervals out.

Every inference is exact about its own uncertainty: it gives an interval at any
confidence, one-sided p-values against any bound that agree with that interval,
and says what it could have detected.  Nothing here knows what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its uncertainty."""

    point: float
    low: float
    high: float
    confidence: float
    """Two-sided coverage of ``[low, high]``."""
    method: str
    n: int
    """Independent questions (clusters, where ``num_clusters`` is set, hold them)."""
    num_clusters: int | None
    seed: int | None
    degenerate: str | None
    """Why the data cannot carry the usual method, or ``None``."""
    minimum_detectable_effect: float
    """Distance from a bound that this n finds with 80 % power at this confidence."""
    monte_carlo_error: float
    """Standard error of ``low``/``high`` due to resampling; 0 where nothing is drawn."""


class Inference(Protocol):
    """One parameter, inferred once, asked about as often as one likes."""

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
