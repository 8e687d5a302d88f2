"""Claims laid out: which inequalities each kind of claim rests on.

A claim and the per-question scores come in; the inferences to be made, their
bounds, and whatever stands in the way of deciding go out as a ``Case``.  What
the numbers decide, and at which error rate, is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial, singledispatch
from typing import TYPE_CHECKING, Literal

import numpy as np

from caa_harness import scores, statistics
from caa_harness.evidence import Column, Evidence, Undecidable, row_of
from caa_harness.spec import (
    AnswerMassClaim,
    CapabilityClaim,
    Claim,
    DoseResponseClaim,
    LetterPartClaim,
    LevelClaim,
    NullClaim,
    ShiftClaim,
    SpecificityClaim,
    format_multiplier,
)
from caa_harness.statistics import Estimate, Inference

if TYPE_CHECKING:
    from jaxtyping import Float64

Direction = Literal["at_least", "at_most"]

NULL_KINDS = ("random", "shuffled")
MAX_RANK_P = 0.05
"""A vector must rank at least this high among null draws to pass."""
MAX_WRONG_WAY = 1 / 3
_DRAWS_BEYOND = 2
"""Resamples, drawn for a level, that a bound rejected at it may have beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requirement:
    """One parameter that must lie above or below a bound."""

    name: str
    inference: Inference
    bound: float
    direction: Direction
    veto_alpha: float | None = None
    """``None``: a pass needs this shown.  Else: a pass needs it not refuted at this level."""
    is_difference: bool = True
    """Whether the number is printed with its sign."""
    redraw: Callable[[int], Inference] | None = None
    """The same inference with another number of resamples, where it draws any."""

    @property
    def is_required(self) -> bool:
        """Whether a pass needs this shown (not merely unrefuted)."""
        return self.veto_alpha is None

    @property
    def p_holds(self) -> float:
        """One-sided p of "this does not hold": small supports the claim."""
        return self._p(above=self.direction == "at_least")

    @property
    def p_violated(self) -> float:
        """One-sided p of "this holds": small speaks against the claim."""
        return self._p(above=self.direction == "at_most")

    @property
    def distance(self) -> float:
        """How far beyond the bound, on its good side, the estimate lies, in interval widths."""
        estimate = self.inference.estimate(0.95)
        width = estimate.high - estimate.low
        beyond = estimate.point - self.bound
        return (beyond if self.direction == "at_least" else -beyond) / width if width else 0.0

    def resolved(self, num_resamples: int, level: float) -> Requirement:
        """Draw enough resamples for ``level``, where none of so many reaches the bound.

        ``num_resamples`` leave a p of at least ``1 / (num_resamples + 1)``, which may be
        more than the level that many claims and parts leave each other.
        """
        floor = 1.0 / (num_resamples + 1)
        if self.redraw is None or level >= floor or min(self.p_holds, self.p_violated) > floor:
            return self
        return replace(self, inference=self.redraw(math.ceil(_DRAWS_BEYOND / level)))

    def estimate(self, level: float) -> Estimate:
        """Estimate with each end at one-sided ``level``; the wider of two methods if there are."""
        return widest(self.inference, confidence=1.0 - 2.0 * level)

    def _p(self, *, above: bool) -> float:
        """One-sided p; the larger one where two methods must agree, 1 where it is no number."""
        both = [self.inference, self.inference.cross_check]
        found = [
            inference.p_greater(self.bound) if above else inference.p_less(self.bound)
            for inference in both
            if inference is not None
        ]
        return max(found) if all(0.0 <= p <= 1.0 for p in found) else 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A claim as inequalities, and what keeps them from being decided."""

    requirements: tuple[Requirement, ...] = ()
    undecidable: str | None = None
    """Why there is neither a pass nor a fail, or ``None``."""
    obstacles: tuple[str, ...] = ()
    """Why there is no pass, though there may be a fail."""
    facts: tuple[str, ...] = ()
    """What the reason should also say."""
    warnings: tuple[str, ...] = ()
    unit: str = "questions"
    """What more of would decide it."""


def widest(inference: Inference, *, confidence: float) -> Estimate:
    """Estimate, reaching over both methods' intervals where a second one must agree."""
    estimate = inference.estimate(confidence)
    if inference.cross_check is None:
        return estimate
    other = inference.cross_check.estimate(confidence)
    return replace(
        estimate,
        low=min(estimate.low, other.low),
        high=max(estimate.high, other.high),
        method=f"wider of {estimate.method} and {other.method}",
    )


def lay_out(claim: Claim, evidence: Evidence) -> Case:
    """Say which inequalities ``claim`` rests on, or why nothing can be decided."""
    try:
        return _lay_out(claim, evidence)
    except Undecidable as why:
        return Case(undecidable=str(why))


@singledispatch
def _lay_out(claim: Claim, evidence: Evidence) -> Case:  # noqa: ARG001
    """Refuse a kind of claim that nobody knows how to judge."""
    raise AssertionError(f"no layout for {type(claim).__name__}")


@_lay_out.register
def _shift(claim: ShiftClaim, evidence: Evidence) -> Case:
    """Mean over questions of steered minus unsteered score."""
    moves = evidence.moves(claim.multiplier)
    wrong = evidence.wrong_way(claim.multiplier)
    warnings = [*moves.warnings, *evidence.saturation()]
    if wrong > MAX_WRONG_WAY:
        warnings.append(f"{wrong:.0%} of the questions move the wrong way")
    requirements = _between(
        f"shift at {format_multiplier(claim.multiplier)}",
        moves,
        claim.at_least,
        claim.at_most,
    )
    return Case(
        requirements=requirements,
        obstacles=_degenerate(requirements),
        warnings=tuple(warnings),
    )


@_lay_out.register
def _level(claim: LevelClaim, evidence: Evidence) -> Case:
    """Mean over questions of the score at one multiplier."""
    levels = evidence.column(evidence.at(evidence.score, claim.multiplier), value_range=(0.0, 1.0))
    requirements = _between(
        f"level at {format_multiplier(claim.multiplier)}",
        levels,
        claim.at_least,
        claim.at_most,
        is_difference=False,
    )
    return Case(
        requirements=requirements,
        obstacles=_degenerate(requirements),
        warnings=(*levels.warnings, *evidence.saturation()),
    )


@_lay_out.register
def _dose_response(claim: DoseResponseClaim, evidence: Evidence) -> Case:
    """Least-squares slope of each question's scores over the multipliers, and each step.

    The mean slope must be shown to reach the bound.  A step need not be shown to
    rise, for a curve may level off; but one that significantly drops, at the spec's
    one-sided level shared over the steps, forbids a pass, and one that drops at the
    level of the whole gate fails the claim.
    """
    doses = sorted(claim.multipliers)
    table = np.stack([evidence.at(evidence.score, dose) for dose in doses])
    slope = evidence.column(
        statistics.dose_slopes(table, doses), value_range=statistics.slope_range(doses)
    )
    veto_alpha = (1.0 - evidence.spec.confidence) / 2.0 / (len(doses) - 1)
    must = Requirement(
        name="slope per unit multiplier",
        inference=slope.infer(),
        redraw=slope.infer,
        bound=claim.at_least,
        direction="at_least",
    )
    steps = tuple(
        Requirement(
            name=f"step from {format_multiplier(low)} to {format_multiplier(high)}",
            inference=step.infer(),
            redraw=step.infer,
            bound=0.0,
            direction="at_least",
            veto_alpha=veto_alpha,
        )
        for low, high, step in zip(
            doses, doses[1:], map(evidence.column, statistics.adjacent_steps(table)), strict=False
        )
    )
    drops = tuple(
        f"{step.name} drops by {-step.inference.estimate(0.95).point:.3g} (p = "
        f"{step.p_violated:.2g}, over {len(steps)} steps)"
        for step in steps
        if not step.p_violated > veto_alpha
    )
    return Case(
        requirements=(must, *steps),
        obstacles=(*_degenerate([must]), *drops),
        warnings=(*slope.warnings, *evidence.saturation()),
    )


@_lay_out.register
def _capability(claim: CapabilityClaim, evidence: Evidence) -> Case:
    """Steered minus unsteered result on the probe, not below ``-max_loss`` (non-inferiority)."""
    requirements, warnings = [], []
    for multiplier in claim.multipliers:
        inference, redraw, warned = _probe_loss(evidence, multiplier, claim.metric)
        warnings += [note for note in warned if note not in warnings]
        requirements.append(
            Requirement(
                name=f"{claim.metric} of right options, {format_multiplier(multiplier)} minus +0",
                inference=inference,
                bound=-claim.max_loss,
                direction="at_least",
                redraw=redraw,
            )
        )
    return Case(requirements=tuple(requirements), warnings=tuple(warnings), unit="probe items")


@_lay_out.register
def _answer_mass(claim: AnswerMassClaim, evidence: Evidence) -> Case:
    """Mean over questions of p(A) + p(B), at each multiplier."""
    requirements, warnings, missing = [], [], 0
    for multiplier in claim.multipliers:
        masses = evidence.at(evidence.mass, multiplier)
        column = evidence.column(np.minimum(masses, 1.0), value_range=(0.0, 1.0))
        missing += int((~np.isfinite(masses)).sum())
        warnings += [note for note in column.warnings if note not in warnings]
        requirements.append(
            Requirement(
                name=f"answer mass at {format_multiplier(multiplier)}",
                inference=column.infer(),
                bound=claim.at_least,
                direction="at_least",
                redraw=column.infer,
                is_difference=False,
            )
        )
    table = np.stack([evidence.at(evidence.mass, m) for m in claim.multipliers])
    row, question = np.unravel_index(int(np.nanargmin(table)), table.shape)
    where = format_multiplier(claim.multipliers[int(row)])
    named = evidence.questions[int(question)]
    lowest = f"lowest item {table[row, question]:.3g} at {where} (question {named})"
    return Case(
        requirements=tuple(requirements),
        obstacles=(f"{missing} answers have no mass",) if missing else (),
        facts=(lowest,),
        warnings=tuple(warnings),
    )


@_lay_out.register
def _letter_part(claim: LetterPartClaim, evidence: Evidence) -> Case:
    """Share of the move that is letter: ``|L| <= c (|L| + S)``, by two linear parts.

    ``L`` is the mean move of p(A) with the answers behind the letters cancelled, ``S``
    the mean move of the score in the multiplier's direction, ``c`` the ceiling.  A
    ratio of two noisy means has no simple interval, but the inequality is the same as
    ``(1 - c) |L| - c S <= 0``, and ``|L|`` is the larger of ``L`` and ``-L``.  So the claim
    holds exactly when both of the means over questions

        ``(1 - c) l - c s <= 0``  and  ``-(1 - c) l - c s <= 0``

    do, each linear in the per-question moves ``l`` and ``s``.  A move against the
    multiplier leaves nothing for the behaviour: then the claim does not hold,
    however small the letter part is.
    """
    letter = evidence.moved(evidence.letter, claim.multiplier)
    score = evidence.moved(evidence.score, claim.multiplier) * np.sign(claim.multiplier)
    share, where = claim.at_most, format_multiplier(claim.multiplier)
    up = evidence.column((1.0 - share) * letter - share * score)
    down = evidence.column(-(1.0 - share) * letter - share * score)
    requirements = tuple(
        Requirement(
            name=f"{1.0 - share:.3g} x {word} - {share:.3g} x shift at {where}",
            inference=column.infer(),
            bound=0.0,
            direction="at_most",
            redraw=column.infer,
        )
        for word, column in (("move to A", up), ("move to B", down))
    )
    both = np.isfinite(letter) & np.isfinite(score)
    mean_letter, mean_score = float(letter[both].mean()), float(score[both].mean())
    total = abs(mean_letter) + max(mean_score, 0.0)
    told = f"{abs(mean_letter) / total:.0%} of the move is letter" if total else "nothing moves"
    return Case(
        requirements=requirements,
        obstacles=_degenerate(requirements),
        facts=(f"{told} (letter {mean_letter:+.3g}, behavior {mean_score:+.3g})",),
        warnings=(*up.warnings, *evidence.saturation()),
    )


@_lay_out.register
def _null(claim: NullClaim, evidence: Evidence) -> Case:
    """Mean shift against that of random directions of equal norm and of shuffled labels.

    Per kind of null, the p of a further draw (Student's t) enters Holm's correction;
    a pass also needs the empirical rank, which assumes no distribution but cannot
    fall below 1 / (draws + 1), to be at most 0.05.
    """
    if claim.multiplier == 0.0:
        raise Undecidable("at multiplier 0 nothing is steered")
    sign = float(np.sign(claim.multiplier))
    requirements, obstacles, facts = [], [], []
    warnings: tuple[str, ...] = ()
    for kind in NULL_KINDS:
        draws = _null_moves(evidence, kind, claim)
        table = np.concatenate([evidence.moved(evidence.score, claim.multiplier)[None], draws])
        # A question counts for the vector and for every draw, or for none of them.
        scored = np.isfinite(table).all(axis=0)
        column = evidence.column(np.where(scored, table[0], np.nan))
        means = sign * table[:, scored].mean(axis=1)
        null = statistics.null_rank(float(means[0]), means[1:])
        rank_p = null.rank_p_greater
        beaten = int((null.draws < means[0]).sum())
        fact = f"ahead of {beaten} of {len(null.draws)} {kind} vectors (rank p = {rank_p:.3g})"
        facts.append(fact)
        if not rank_p <= MAX_RANK_P:
            obstacles.append(f"{fact}, more than {MAX_RANK_P:g}")
        requirements.append(
            Requirement(
                name=f"shift at {format_multiplier(claim.multiplier)} over {kind} vectors",
                inference=null,
                bound=0.0,
                direction="at_least",
            )
        )
        warnings = column.warnings
    return Case(
        requirements=tuple(requirements),
        obstacles=(*_degenerate(requirements), *obstacles),
        facts=tuple(facts),
        warnings=(*warnings, *evidence.saturation()),
        unit="draws",
    )


@_lay_out.register
def _specificity(claim: SpecificityClaim, evidence: Evidence) -> Case:
    """Own mean move times ``max_share`` exceeds every other behaviour's, up and down."""
    if claim.multiplier == 0.0:
        raise Undecidable("at multiplier 0 nothing is steered")
    names = claim.against or evidence.siblings
    if not names:
        raise Undecidable("there is no other behavior to compare with")
    own = evidence.moves(claim.multiplier).mirrored(claim.multiplier)
    requirements: list[Requirement] = []
    warnings = [*own.warnings, *evidence.saturation()]
    moved: dict[str, float] = {}
    for name in names:
        other = _other_moves(evidence, name, claim.multiplier)
        moved[name] = float(other.values.mean())
        warnings += [f"{name}: {note}" for note in other.warnings]
        for word, sign in _SIDES:
            infer = partial(_room, own, other, claim.max_share, sign)
            requirements.append(
                Requirement(
                    name=f"{claim.max_share:.3g} x own move {word} {name}'s at "
                    f"{format_multiplier(claim.multiplier)}",
                    inference=infer(own.num_resamples),
                    bound=0.0,
                    direction="at_least",
                    redraw=infer,
                )
            )
    farthest = max(moved, key=lambda name: abs(moved[name]))
    own_move = float(own.values.mean()) * np.sign(claim.multiplier)
    fact = f"own move {own_move:+.3g}, farthest other {farthest} {moved[farthest]:+.3g}"
    return Case(
        requirements=tuple(requirements),
        obstacles=_degenerate(requirements),
        facts=(fact,),
        warnings=tuple(warnings),
    )


_SIDES: tuple[tuple[str, Literal[-1, 1]], ...] = (("minus", -1), ("plus", 1))


def _between(
    name: str,
    column: Column,
    at_least: float | None,
    at_most: float | None,
    *,
    is_difference: bool = True,
) -> tuple[Requirement, ...]:
    """One requirement per bound that is set."""
    inference = column.infer()
    sides: tuple[tuple[Direction, float | None], ...] = (
        ("at_least", at_least),
        ("at_most", at_most),
    )
    requirements = tuple(
        Requirement(
            name=name,
            inference=inference,
            bound=bound,
            direction=direction,
            is_difference=is_difference,
            redraw=column.infer,
        )
        for direction, bound in sides
        if bound is not None
    )
    assert requirements, f"{name}: a claim without a bound"
    return requirements


def _degenerate(requirements: Iterable[Requirement]) -> tuple[str, ...]:
    """Say which data are too uniform for a pass: a real model's answers vary."""
    found = {r.inference.estimate(0.95).degenerate: r.name for r in requirements}
    return tuple(f"{name}: {why}" for why, name in found.items() if why is not None)


def _room(
    own: Column, other: Column, share: float, sign: Literal[-1, 1], num_resamples: int
) -> Inference:
    """Infer what is left of a share of the own move beside another behaviour's."""
    return statistics.two_sample_mean(
        own.values,
        other.values,
        share=share,
        sign=sign,
        seed=own.seed,
        num_resamples=num_resamples,
        own_clusters=own.clusters,
        other_clusters=other.clusters,
    )


def _probe_loss(
    evidence: Evidence, multiplier: float, metric: str
) -> tuple[Inference, Callable[[int], Inference] | None, tuple[str, ...]]:
    """Infer steered minus unsteered result on the capability probe, and how to draw more."""
    probe = evidence.measurements.capability
    if probe is None:
        raise Undecidable("the capability probe was not measured")
    steered, unsteered = (row_of(m, probe.multipliers) for m in (multiplier, 0.0))
    is_probability = metric == "probability"
    read = scores.capability_probability if is_probability else scores.capability_accuracy
    table = read(probe)
    losses = table[steered] - table[unsteered]
    column = evidence.column(losses, clusters=(None,) * len(losses), unit="probe items")
    if is_probability:
        return column.infer(), column.infer, column.warnings
    right = table[:, np.isfinite(losses)] > 0.5  # noqa: PLR2004
    return statistics.paired_binary(right[unsteered], right[steered]), None, column.warnings


def _null_moves(
    evidence: Evidence, kind: str, claim: NullClaim
) -> Float64[np.ndarray, "draw question"]:
    """Per-question moves under every null vector of one kind."""
    measurements = evidence.measurements
    found = [
        null
        for null in measurements.nulls
        if null.kind == kind and null.multiplier == claim.multiplier
    ]
    num_draws = sum(len(null.answer_logprobs) for null in found)
    if num_draws < claim.draws:
        raise Undecidable(
            f"{num_draws} {kind} vectors were measured at {format_multiplier(claim.multiplier)}, "
            f"the claim asks for {claim.draws}"
        )
    logprobs = np.concatenate([null.answer_logprobs for null in found])[:, list(evidence.order)]
    return scores.question_scores(logprobs, measurements.scoring) - evidence.at(evidence.score, 0.0)


def _other_moves(evidence: Evidence, name: str, multiplier: float) -> Column:
    """Per-question moves of another behaviour's questions under this behaviour's vector."""
    found = [other for other in evidence.measurements.others if other.behavior == name]
    if not found:
        raise Undecidable(f"{name}'s questions were not asked under this vector")
    other = found[0]
    steered, unsteered = (row_of(m, other.multipliers) for m in (multiplier, 0.0))
    table = scores.question_scores(other.answer_logprobs, evidence.measurements.scoring)
    return evidence.column(
        table[steered] - table[unsteered],
        clusters=other.clusters,
        unit=f"{name} questions",
    )
