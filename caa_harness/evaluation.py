"""Evaluation: held-out questions asked under every intervention, as plain numbers.

A spec and an engine come in, ``Measurements`` go out: log-probabilities of the
answer letters and nothing judged.  They can be written to a file, read back and
judged again without a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from caa_harness.engines import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CapabilityMeasurements:
    """The probe under every multiplier, one letter order per item."""

    multipliers: tuple[float, ...]
    option_logprobs: Float32[np.ndarray, "multiplier item option"]
    """NaN where an item has fewer options, or could not be scored."""
    correct: Int64[np.ndarray, " item"]
    categories: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullMeasurements:
    """The held-out questions under vectors that should do nothing."""

    kind: str
    """``random`` (norm-matched directions) or ``shuffled`` (pair labels flipped at random)."""
    multiplier: float
    answer_logprobs: Float32[np.ndarray, "draw question order letter"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherBehavior:
    """Another behaviour's held-out questions under this behaviour's vector."""

    behavior: str
    multipliers: tuple[float, ...]
    answer_logprobs: Float32[np.ndarray, "multiplier question order letter"]
    clusters: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEndedAnswer:
    """One greedy continuation."""

    prompt: str
    multiplier: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSummary:
    """What a report says of the vector that was added."""

    layer: int
    norm: float
    num_pairs: int
    mean_residual_norm: float
    """Of the residuals the vector was computed from: what the norm is measured against."""
    digest: str
    normalisation: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurements:
    """Everything measured for one spec on one model.

    The letter axis is (A, B); the order axis is (matching answer is A, matching
    answer is B).  NaN is "not scored", and ``unscored`` says why.
    """

    behavior: str
    spec_digest: str
    scoring: str
    """``both_orders`` or ``paper`` (one order per question, the other NaN)."""
    model: ModelCard
    vector: VectorSummary
    multipliers: tuple[float, ...]
    """Ascending, 0 among them."""
    questions: tuple[str, ...]
    """Digest of each held-out question, the row's name."""
    clusters: tuple[str | None, ...]
    answer_logprobs: Float32[np.ndarray, "multiplier question order letter"]
    capability: CapabilityMeasurements | None
    nulls: tuple[NullMeasurements, ...]
    others: tuple[OtherBehavior, ...]
    open_ended: tuple[OpenEndedAnswer, ...]
    unscored: tuple[str, ...]
    notes: tuple[str, ...]
