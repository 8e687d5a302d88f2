"""Statistics: per-question numbers in, estimates with intervals out.

Every inference is exact about its own uncertainty: it gives an interval at any
confidence, one-sided p-values against any bound that agree with that interval,
and says what it could have detected.  Nothing here knows what was measured.
"""

from caa_harness.statistics.contrasts import two_sample_mean
from caa_harness.statistics.families import (
    NullRank,
    adjacent_steps,
    dose_slopes,
    holm,
    holm_divisors,
    null_rank,
    slope_range,
)
from caa_harness.statistics.inference import (
    MIN_QUESTIONS,
    Estimate,
    Inference,
    ValueRange,
    minimum_detectable_effect,
    required_n,
)
from caa_harness.statistics.means import paired_mean
from caa_harness.statistics.proportions import (
    auc,
    mcnemar_mid_p,
    paired_binary,
    proportion,
    tango_interval,
    tango_score,
)

__all__ = [
    "MIN_QUESTIONS",
    "Estimate",
    "Inference",
    "NullRank",
    "ValueRange",
    "adjacent_steps",
    "auc",
    "dose_slopes",
    "holm",
    "holm_divisors",
    "mcnemar_mid_p",
    "minimum_detectable_effect",
    "null_rank",
    "paired_binary",
    "paired_mean",
    "proportion",
    "required_n",
    "slope_range",
    "tango_interval",
    "tango_score",
    "two_sample_mean",
]
