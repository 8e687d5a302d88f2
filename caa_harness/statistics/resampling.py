"""Resamples of a few numbers: bootstrap statistics and sign patterns, always the same ones.

Values go in, the statistics of every resample come out.  Draws depend on the
seed and the number of values alone, so samples of one size share them; neither
the order of the values nor their sign can show in a result.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from caa_harness.statistics.inference import ValueRange

if TYPE_CHECKING:
    from jaxtyping import Float64, Integer

Values: TypeAlias = 'Float64[np.ndarray, " value"]'


def exact_mean(values: Values) -> float:
    """Exactly rounded, so that neither order nor sign can show in the last bit."""
    return math.fsum(values.tolist()) / len(values) if len(values) else math.nan


def exact_sd(values: Values) -> float:
    """Sample standard deviation, exactly rounded sums."""
    if len(values) < 2:  # noqa: PLR2004
        return math.nan
    mean = exact_mean(values)
    return math.sqrt(math.fsum(((values - mean) ** 2).tolist()) / (len(values) - 1))


def subset_means(values: Values) -> Values:
    """Mean of every nonempty subset, ascending: the bounds an exact sign-flip test moves at.

    Flipping the signs of a subset S of ``values - bound`` keeps the sum at least as
    large exactly when the mean over S is at most ``bound``.
    """
    members = (np.arange(1, 2 ** len(values))[:, None] >> np.arange(len(values))) & 1
    return np.sort((members * values).sum(axis=1) / members.sum(axis=1))


def bootstrap_t(values: Values, *, seed: int, num_resamples: int) -> Values:
    """Studentised bootstrap statistics of the mean, one per resample."""
    standardised, flipped = _canonical(values)
    means, variances = _resampled_moments(standardised, seed=seed, num_resamples=num_resamples)
    t = _studentised(means, variances / len(values))
    return -t if flipped else t


def two_sample_bootstrap_t(own: Values, other: Values, *, seed: int, num_resamples: int) -> Values:
    """Studentised bootstrap statistics of ``mean(own) + mean(other)``."""
    mean = np.zeros(num_resamples)
    variance = np.zeros(num_resamples)
    for stream, values in enumerate((own, other)):
        standardised, flipped = _canonical(values)
        means, variances = _resampled_moments(
            standardised, seed=seed, num_resamples=num_resamples, stream=stream
        )
        sd = exact_sd(values)
        mean += (-sd if flipped else sd) * means
        variance += sd**2 * variances / len(values)
    return _studentised(mean, variance)


def bounds_of(point: float, se: float, t: Values, value_range: ValueRange) -> Values:
    """Lower (and upper) bounds of the mean that each bootstrap statistic stands for."""
    return np.sort(np.clip(point - se * t, *value_range))


def _canonical(values: Values) -> tuple[Values, bool]:
    """Standardise, and turn over where that sorts first: a sample and its mirror are one."""
    standardised = (values - exact_mean(values)) / exact_sd(values)
    mirrored = -standardised[::-1]
    flipped = mirrored.tolist() < standardised.tolist()
    return (mirrored if flipped else standardised), flipped


def _studentised(means: Values, variances: Values) -> Values:
    """``means / sqrt(variances)``, infinite where a resample has no spread of its own."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = means / np.sqrt(variances)
    flat = variances <= 1e-24 * (1.0 + means**2)
    t[flat] = np.where(means[flat] == 0.0, 0.0, np.copysign(np.inf, means[flat]))
    return t


_CHUNK = 2048


def _resampled_moments(
    values: Values, *, seed: int, num_resamples: int, stream: int = 0
) -> tuple[Values, Values]:
    """Mean and variance of every resample of ``values``."""
    counts = _resample_counts(len(values), seed, num_resamples, stream)
    means = np.empty(num_resamples)
    squares = np.empty(num_resamples)
    for start in range(0, num_resamples, _CHUNK):
        rows = slice(start, min(start + _CHUNK, num_resamples))
        weights = counts[rows].astype(np.float64)
        # einsum, not BLAS: the same bytes whatever the number of threads.
        means[rows] = np.einsum("ij,j->i", weights, values) / len(values)
        squares[rows] = np.einsum("ij,j->i", weights, values**2) / len(values)
    variances = np.maximum(squares - means**2, 0.0)
    variances[variances < 1e-12 * squares] = 0.0
    return means, variances * (len(values) / (len(values) - 1))


@lru_cache(maxsize=16)
def _resample_counts(
    n: int, seed: int, num_resamples: int, stream: int
) -> Integer[np.ndarray, "resample value"]:
    """How often each resample draws each value: shared by all samples of one size."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, n, stream])))
    kind = np.uint8 if n < 256 else np.uint16  # noqa: PLR2004
    counts = np.empty((num_resamples, n), dtype=kind)
    for start in range(0, num_resamples, _CHUNK):
        rows = min(_CHUNK, num_resamples - start)
        drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * n).reshape(
            rows, n
        )
    counts.flags.writeable = False
    return counts
