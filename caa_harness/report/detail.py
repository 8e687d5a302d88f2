"""Detail: what a report shows beside the verdicts, as plain types.

A spec and its measurements come in; answer masses with intervals, the capability
probe by category, and the texts of the questions that moved least go out.  These
are descriptions: no verdict rests on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from caa_harness import scores, statistics
from caa_harness.claims import widest
from caa_harness.evidence import gather
from caa_harness.report.document import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float64

    from caa_harness.evidence import Evidence
    from caa_harness.measurements import CapabilityMeasurements, Measurements
    from caa_harness.spec import BehaviorSpec
    from caa_harness.statistics import Estimate, ValueRange

NUM_SHOWN = 5
"""Questions shown with their texts, at each multiplier."""
NUM_RESAMPLES = 999
"""Enough for a description; claims are judged with the spec's own number."""
OTHER_CATEGORY = "without a category"


def behavior_detail(spec: BehaviorSpec, measurements: Measurements) -> dict[str, Any]:
    """Describe one spec's measurements further than its summary does.

    Parameters
    ----------
    spec, measurements
        Of one spec and one run; no layer or family is checked here.

    Returns
    -------
    dict
        Plain types.  ``answer_mass``: an estimate of the mean p(A) + p(B) and the question with
        the lowest, at each multiplier.  ``wrong_way``: the share of questions that moved
        against the multiplier's sign, with its interval.  ``least_moved``: at the multipliers
        nearest to -1 and +1, the ``NUM_SHOWN`` questions that moved least in its
        direction, or farthest against it, with their texts and scores.
        ``capability_categories``: the probe's level and change, by category.
    """
    with np.errstate(invalid="ignore"):  # a letter of probability 0: no score
        evidence = gather(spec, measurements)
        multipliers = sorted(measurements.multipliers)
        probe = measurements.capability
        found = {
            "answer_mass": [_mass_at(m, evidence) for m in multipliers],
            "wrong_way": [_wrong_way_at(m, evidence) for m in multipliers if m != 0.0],
            "least_moved": [_least_moved(m, evidence) for m in nearest_to_one(multipliers)],
            "capability_categories": [] if probe is None else _categories(probe, evidence),
        }
    detail: dict[str, Any] = plain(found)
    return detail


def nearest_to_one(multipliers: Sequence[float]) -> list[float]:
    """Take the multiplier nearest to -1 among the negative ones, to +1 among the others.

    Examples
    --------
    >>> nearest_to_one([-2.0, -1.0, 0.0, 0.5])
    [-1.0, 0.5]
    """
    sides = ([m for m in multipliers if m < 0], [m for m in multipliers if m > 0])
    return [min(side, key=lambda m: abs(abs(m) - 1.0)) for side in sides if side]


def _mass_at(multiplier: float, evidence: Evidence) -> dict[str, Any]:
    """Describe the answer mass at one multiplier."""
    mass = evidence.at(evidence.mass, multiplier)
    lowest = None
    if np.isfinite(mass).any():
        row = int(np.nanargmin(mass))
        lowest = {"mass": mass[row], **_texts(row, evidence)}
    return {
        "multiplier": multiplier,
        "estimate": _mean(mass, evidence, clusters=evidence.clusters, value_range=(0.0, 1.0)),
        "lowest": lowest,
    }


def _wrong_way_at(multiplier: float, evidence: Evidence) -> dict[str, Any]:
    """Count the questions that moved against the multiplier's sign."""
    moves = evidence.moved(evidence.score, multiplier) * np.sign(multiplier)
    against = np.where(np.isfinite(moves), (moves < 0).astype(np.float64), np.nan)
    return {
        "multiplier": multiplier,
        "num_wrong_way": int(np.nansum(against)),
        "estimate": _mean(against, evidence, clusters=evidence.clusters, value_range=(0.0, 1.0)),
    }


def _least_moved(multiplier: float, evidence: Evidence) -> dict[str, Any]:
    """List the questions that moved least in the multiplier's direction, the worst first."""
    unsteered = evidence.at(evidence.score, 0.0)
    steered = evidence.at(evidence.score, multiplier)
    move = (steered - unsteered) * np.sign(multiplier)
    rows = [int(row) for row in np.argsort(move, kind="stable") if np.isfinite(move[row])]
    return {
        "multiplier": multiplier,
        "num_scored": len(rows),
        "num_wrong_way": int((move[rows] < 0).sum()),
        "items": [
            {
                **_texts(row, evidence),
                "unsteered": unsteered[row],
                "steered": steered[row],
                "move": steered[row] - unsteered[row],
                "is_wrong_way": bool(move[row] < 0),
            }
            for row in rows[:NUM_SHOWN]
        ],
    }


def _texts(row: int, evidence: Evidence) -> dict[str, Any]:
    """Give a question's texts, and its name in the measurements."""
    digest = evidence.questions[row]
    for question in evidence.spec.held_out:
        if question.digest == digest:
            return {
                "digest": digest,
                "question": question.question,
                "matching": question.matching,
                "not_matching": question.not_matching,
                "cluster": question.cluster,
            }
    message = f"question {digest} was measured, but is not in the spec"
    raise AssertionError(message)


def _categories(probe: CapabilityMeasurements, evidence: Evidence) -> list[dict[str, Any]]:
    """Describe the probe by category, in alphabetical order; none where there is but one."""
    names = [name or OTHER_CATEGORY for name in probe.categories]
    table = scores.capability_probability(probe)
    unsteered = table[probe.multipliers.index(0.0)]
    found = []
    for name in sorted(set(names)) if len(set(names)) > 1 else []:
        rows = np.array([one == name for one in names])
        found.append(
            {
                "category": name,
                "num_items": int(rows.sum()),
                "multipliers": [
                    {
                        "multiplier": m,
                        "level": _mean(level[rows], evidence, value_range=(0.0, 1.0)),
                        "change": None if m == 0.0 else _mean((level - unsteered)[rows], evidence),
                    }
                    for m, level in zip(probe.multipliers, table, strict=True)
                ],
            }
        )
    return found


def _mean(
    values: Float64[np.ndarray, " value"],
    evidence: Evidence,
    *,
    clusters: tuple[str | None, ...] | None = None,
    value_range: ValueRange = (-1.0, 1.0),
) -> Estimate:
    """Estimate a mean over whatever was scored, at the spec's confidence, taken alone."""
    scored = np.isfinite(values)
    names = (None,) * len(values) if clusters is None else clusters
    inference = statistics.paired_mean(
        values[scored],
        clusters=[name for name, keep in zip(names, scored, strict=True) if keep],
        value_range=value_range,
        seed=evidence.spec.seed,
        num_resamples=min(NUM_RESAMPLES, evidence.spec.resamples),
    )
    return widest(inference, confidence=evidence.spec.confidence)
