"""Evidence: measurements as one number per question, ready to be inferred from.

Log-probabilities come in; scores, letter levels and answer masses go out, rows
sorted by the questions' digests so that the order in a file cannot move a
verdict.  What too few numbers are is decided here, once, for every claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from caa_harness import scores, statistics
from caa_harness.errors import MeasurementError
from caa_harness.measurements import Measurements
from caa_harness.spec import BehaviorSpec, format_multiplier
from caa_harness.statistics import MIN_QUESTIONS, Inference, ValueRange

if TYPE_CHECKING:
    from jaxtyping import Float64

Clusters = tuple[str | None, ...]

MAX_UNSCORED = 0.10
"""Share of questions without a score above which nothing is decided."""
RESOLUTION = 6
"""Decimals that single-precision answers carry; what differs beyond is rounding, not variation."""
SATURATION_MARGIN = 0.02
MAX_SATURATED = 0.5
_ROUNDING = 1e-3
"""How far above 0 a log-probability may lie when half precision made it."""


class Undecidable(Exception):  # noqa: N818  (a result on its way into a Case, never an error)
    """The data cannot carry a claim; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One number per scored question."""

    values: Float64[np.ndarray, " scored"]
    clusters: Clusters
    value_range: ValueRange
    seed: int
    num_resamples: int
    warnings: tuple[str, ...]

    def infer(self, num_resamples: int | None = None) -> Inference:
        """Infer the mean over questions, with the spec's number of resamples or another."""
        return statistics.paired_mean(
            self.values,
            clusters=self.clusters,
            value_range=self.value_range,
            seed=self.seed,
            num_resamples=num_resamples or self.num_resamples,
        )

    def mirrored(self, sign: float) -> Column:
        """Turn every number over where ``sign`` is negative."""
        low, high = self.value_range
        turned = (low, high) if sign > 0 else (-high, -low)
        return replace(self, values=float(np.sign(sign)) * self.values, value_range=turned)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Per-question scores of one spec, rows in an order that the file's order cannot move."""

    spec: BehaviorSpec
    measurements: Measurements
    siblings: tuple[str, ...]
    """Behaviours that a specificity claim without ``against`` must cover."""
    questions: tuple[str, ...]
    clusters: Clusters
    score: Float64[np.ndarray, "multiplier question"]
    letter: Float64[np.ndarray, "multiplier question"]
    """How probable (A) is once the answers behind the letters cancel."""
    mass: Float64[np.ndarray, "multiplier question"]
    order: tuple[int, ...]
    """Row of each question in the measurements."""

    def at(
        self, table: Float64[np.ndarray, "multiplier question"], multiplier: float
    ) -> Float64[np.ndarray, " question"]:
        """Row of ``table`` at a multiplier."""
        return table[row_of(multiplier, self.measurements.multipliers)]

    def moved(
        self, table: Float64[np.ndarray, "multiplier question"], multiplier: float
    ) -> Float64[np.ndarray, " question"]:
        """Steered minus unsteered, per question."""
        return self.at(table, multiplier) - self.at(table, 0.0)

    def column(
        self,
        values: Float64[np.ndarray, " question"],
        *,
        value_range: ValueRange = (-1.0, 1.0),
        clusters: Clusters | None = None,
        unit: str = "questions",
    ) -> Column:
        """Keep the questions that have a number; refuse where too few do."""
        clusters = self.clusters if clusters is None else clusters
        scored = np.isfinite(values)
        kept = tuple(name for name, keep in zip(clusters, scored, strict=True) if keep)
        missing = len(values) - len(kept)
        told = f"{missing} of {len(values)} {unit} have no score"
        if missing > MAX_UNSCORED * len(values):
            raise Undecidable(f"{told}, more than {MAX_UNSCORED:.0%}")
        independent = len({name for name in kept if name is not None}) + kept.count(None)
        if independent < MIN_QUESTIONS:
            raise Undecidable(
                f"{independent} independent {unit} are fewer than {MIN_QUESTIONS}: nothing to judge"
            )
        return Column(
            values=np.round(np.asarray(values[scored], dtype=np.float64), RESOLUTION),
            clusters=kept,
            value_range=value_range,
            seed=self.spec.seed,
            num_resamples=self.spec.resamples,
            warnings=(f"{told} and are left out",) if missing else (),
        )

    def moves(self, multiplier: float) -> Column:
        """Score at ``multiplier`` minus unsteered score, per question."""
        return self.column(self.moved(self.score, multiplier))

    def wrong_way(self, multiplier: float) -> float:
        """Share of the questions that move against the multiplier's sign."""
        return scores.wrong_way_share(
            self.at(self.score, multiplier), self.at(self.score, 0.0), multiplier
        )

    def saturation(self) -> tuple[str, ...]:
        """Warn when most unsteered scores have nowhere left to go."""
        base = self.at(self.score, 0.0)
        base = base[np.isfinite(base)]
        at_the_end = np.minimum(base, 1.0 - base) <= SATURATION_MARGIN
        if not len(base) or not at_the_end.mean() > MAX_SATURATED:
            return ()
        told = (
            f"{at_the_end.sum()} of {len(base)} unsteered scores lie within {SATURATION_MARGIN:g}"
        )
        return (f"{told} of 0 or 1: saturated, shifts are understated",)


def check_match(spec: BehaviorSpec, measurements: Measurements, layer: int | None) -> None:
    """Refuse measurements that were made for something else, or are damaged.

    Raises
    ------
    MeasurementError
        When behaviour, spec, layer, scoring or questions differ, or a table is not of
        log-probabilities with a row per question.
    """
    card = measurements.model
    asked = spec.layer.resolve(num_layers=card.num_layers, model=card.name)
    asked = asked if layer is None else layer
    questions = sorted(question.digest for question in spec.held_out)
    for what, found, wanted in (
        ("behavior", measurements.behavior, spec.behavior),
        ("spec digest", measurements.spec_digest, spec.digest),
        ("scoring", measurements.scoring, spec.scoring),
        ("layer", measurements.vector.layer, asked),
        ("set of held-out questions", sorted(measurements.questions), questions),
    ):
        if found != wanted:
            told = "" if isinstance(found, list) else f" {found}, not {wanted}"
            raise MeasurementError(
                f"measurements of another {what}{told}",
                where=f"{measurements.behavior} on {card.name}",
                remedy="measure again with this spec, or judge with the spec they were made for",
            )
    probe = measurements.capability
    right = [item.correct for item in spec.capability]
    if probe is not None and right and probe.correct.tolist() != right:
        raise MeasurementError(
            "measurements of another capability probe",
            where=f"{measurements.behavior} on {card.name}",
            remedy="measure again with this spec, or judge with the spec they were made for",
        )
    _check_shapes(measurements)


def _check_shapes(measurements: Measurements) -> None:
    """Refuse tables whose rows are not the questions, or whose numbers are no log-probabilities."""
    answers = measurements.answer_logprobs
    asked = len(measurements.questions)
    tables = [("answers", answers, len(measurements.multipliers), asked)]
    tables += [("clusters", answers, len(answers), len(measurements.clusters))]
    tables += [
        (f"{null.kind} nulls", null.answer_logprobs, len(null.answer_logprobs), asked)
        for null in measurements.nulls
    ]
    tables += [
        (
            f"answers of {other.behavior}",
            other.answer_logprobs,
            len(other.multipliers),
            len(other.clusters),
        )
        for other in measurements.others
    ]
    for name, table, num_rows, num_questions in tables:
        wanted = (num_rows, num_questions, 2, 2)
        if table.shape != wanted:
            found = f"{name} of shape {table.shape}, not {wanted}"
        elif np.nan_to_num(table, nan=0.0, neginf=0.0).max(initial=0.0) > _ROUNDING:
            found = f"{name} that are no log-probabilities: some are above 0"
        else:
            continue
        raise MeasurementError(
            found,
            where=f"{measurements.behavior} on {measurements.model.name}",
            remedy="measure again: these measurements are damaged",
        )


def gather(
    spec: BehaviorSpec, measurements: Measurements, *, siblings: Iterable[str] = ()
) -> Evidence:
    """Turn log-probabilities into per-question scores, sorted by the questions' digests."""
    order = sorted(range(len(measurements.questions)), key=measurements.questions.__getitem__)
    logprobs = measurements.answer_logprobs[:, order]
    return Evidence(
        spec=spec,
        measurements=measurements,
        siblings=tuple(siblings),
        questions=tuple(measurements.questions[row] for row in order),
        clusters=tuple(measurements.clusters[row] for row in order),
        score=scores.question_scores(logprobs, measurements.scoring),
        letter=scores.letter_levels(logprobs),
        mass=scores.answer_mass(logprobs, measurements.scoring),
        order=tuple(order),
    )


def row_of(multiplier: float, measured: Sequence[float]) -> int:
    """Find a multiplier among the measured ones."""
    if multiplier not in measured:
        raise Undecidable(f"multiplier {format_multiplier(multiplier)} was not measured")
    return list(measured).index(multiplier)
