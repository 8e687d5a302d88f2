"""Self-check: how often a spec's gate passes what it should not, and misses what it should not.

A spec and an engine come in.  Directions that have nothing to do with the
behaviour take the vector's place, and known effects are planted in the
measured moves; how often the gate passes goes out, with an interval, and
whether that is good enough.  All vectors are measured in one call of the engine.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from caa_harness.claims import NULL_KINDS
from caa_harness.errors import OptionError, SpecError
from caa_harness.evaluation import measure
from caa_harness.evidence import gather
from caa_harness.spec import BehaviorSpec, NullClaim, ShiftClaim, family_size
from caa_harness.statistics import paired_mean, proportion
from caa_harness.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float64

    from caa_harness.engines import Engine
    from caa_harness.measurements import Measurements
    from caa_harness.statistics import Inference

DRAWS: Final = 199
PLANTED: Final = 200
"""Planted data sets for each claim, with and without the effect."""
MAX_WRONG: Final = 0.10
"""Share of foreign vectors that may pass; the whole interval must lie below."""
POWER: Final = 0.8
_CONFIDENCE: Final = 0.95
_RESAMPLES: Final = 999
_STREAM: Final = 0x5E1F


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often the gate passed, and what it had to be."""

    what: str
    passed: int
    trials: int
    low: float
    """Clopper-Pearson, two-sided 95 %."""
    high: float
    wanted: str
    is_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """What the gate of one spec is worth on one model."""

    behavior: str
    model: str
    claims: tuple[str, ...]
    """Claims that were held against foreign vectors: shifts and nulls."""
    num_questions: int
    rates: tuple[Rate, ...]

    @property
    def is_trusted(self) -> bool:
        """Whether every rate is what it has to be."""
        return all(rate.is_good for rate in self.rates)


def self_check(
    spec: BehaviorSpec,
    engine: Engine,
    *,
    draws: int = DRAWS,
    layer: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> SelfCheck:
    """Measure the gate's false passes and its power on this model and these questions.

    False passes: random directions as long as the vector, vectors of shuffled labels, and no
    steering at all stand in for the vector; a pass of every shift and null claim of the spec
    together is a wrong one.  Power: the measured moves of each one-sided shift claim are
    centred on its bound, and on its bound plus the detectable effect, and drawn again with
    replacement (whole clusters where there are some).

    Parameters
    ----------
    spec : BehaviorSpec
        Must have a shift claim.
    engine : Engine
        The user's own model.
    draws : int
        Foreign vectors of each kind; more than any null claim asks for.
    layer : int, optional
        Overrides the spec's own layer rule.
    progress : callable, optional
        As for ``measure``.

    Raises
    ------
    SpecError
        When the spec has no shift claim.
    OptionError
        When there are too few draws to show anything.
    """
    claims = tuple(claim for claim in spec.claims if isinstance(claim, ShiftClaim | NullClaim))
    if not any(isinstance(claim, ShiftClaim) for claim in claims):
        raise SpecError(
            "the spec has no shift claim, so there is nothing to hold against foreign vectors",
            where=str(spec.path),
            remedy="add a shift claim, such as multiplier 1, at_least 0.05",
        )
    enough = max([39, *(claim.draws + 1 for claim in claims if isinstance(claim, NullClaim))])
    if draws < enough:
        raise OptionError(
            f"{draws} draws show nothing: {enough} are needed",
            where="--draws",
            remedy=f"give {enough} or more; {DRAWS} unless a null claim asks for many",
        )
    gate = _gate(spec, claims, draws)
    measured = measure(gate, engine, siblings={}, layer=layer, progress=progress)
    judged = replace(gate, claims=claims)
    rates = [
        _rate(
            f"{kind} vectors in the vector's place",
            sum(_passes(judged, _instead(measured, kind, draw), layer) for draw in range(draws)),
            draws,
            below=MAX_WRONG,
        )
        for kind in NULL_KINDS
    ]
    unsteered = _passes(judged, _unsteered(measured), layer)
    rates.append(
        Rate(
            what="multiplier 0 against 0",
            passed=int(unsteered),
            trials=1,
            low=float(unsteered),
            high=float(unsteered),
            wanted="no pass (the two are the same numbers)",
            is_good=not unsteered,
        )
    )
    for claim in claims:
        if isinstance(claim, ShiftClaim) and (claim.at_least is None) != (claim.at_most is None):
            rates += _planted(spec, judged, measured, claim)
    return SelfCheck(
        behavior=spec.behavior,
        model=measured.model.name,
        claims=tuple(claim.id for claim in claims),
        num_questions=len(measured.questions),
        rates=tuple(rates),
    )


def self_check_text(check: SelfCheck) -> str:
    """Write a self-check for a person."""
    lines = [
        (
            f"{check.behavior} on {check.model}, n = {check.num_questions} questions, "
            f"claims {', '.join(check.claims)}"
        )
    ]
    for rate in check.rates:
        share = f"{rate.passed} of {rate.trials} pass"
        if rate.trials > 1:
            share += f", {rate.passed / rate.trials:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
        lines.append(f"  {'good' if rate.is_good else 'BAD '}  {rate.what}: {share}; {rate.wanted}")
    word = "can" if check.is_trusted else "cannot"
    lines.append(f"  this gate {word} be trusted on this model at this n")
    return "\n".join(lines)


def self_check_json(check: SelfCheck) -> dict[str, Any]:
    """Write a self-check as a JSON object."""
    return {**asdict(check), "is_trusted": check.is_trusted}


def _gate(spec: BehaviorSpec, claims: tuple[Any, ...], draws: int) -> BehaviorSpec:
    """Write the spec that measures every foreign vector at every multiplier that is claimed."""
    multipliers = sorted({claim.multiplier for claim in claims} - {0.0})
    nulls = tuple(
        NullClaim(id=f"null {m:+g}", position=claims[0].position, multiplier=m, draws=draws)
        for m in multipliers
    )
    return replace(spec, claims=nulls)


def _instead(measured: Measurements, kind: str, draw: int) -> Measurements:
    """Put one foreign vector in the vector's place, and take it out of the null draws."""
    answers = measured.answer_logprobs.copy()
    nulls = []
    for null in measured.nulls:
        others = null.answer_logprobs
        if null.kind == kind:
            answers[measured.multipliers.index(null.multiplier)] = others[draw]
            others = np.delete(others, draw, axis=0)
        nulls.append(replace(null, answer_logprobs=others))
    return replace(measured, answer_logprobs=answers, nulls=tuple(nulls))


def _unsteered(measured: Measurements) -> Measurements:
    """Say of every multiplier what was measured at 0."""
    still = measured.answer_logprobs[measured.multipliers.index(0.0)]
    answers = np.broadcast_to(still, measured.answer_logprobs.shape).copy()
    return replace(measured, answer_logprobs=answers)


def _passes(spec: BehaviorSpec, measured: Measurements, layer: int | None) -> bool:
    """Whether every claim passes, as in a session."""
    verdicts = judge(spec, measured, layer=layer)
    return all(verdict.outcome == "pass" for verdict in verdicts)


def _rate(
    what: str, passed: int, trials: int, *, below: float | None = None, above: float | None = None
) -> Rate:
    """Hold a share against what it must be shown to be below, or must not be shown to miss."""
    estimate = proportion(passed, trials).estimate(_CONFIDENCE)
    good, wanted = True, []
    if below is not None:
        good, wanted = estimate.high <= below, [f"at most {below:g} must be shown"]
    if above is not None:
        good, wanted = estimate.high >= above, [f"at least {above:g} must be possible"]
    return Rate(
        what=what,
        passed=passed,
        trials=trials,
        low=estimate.low,
        high=estimate.high,
        wanted=", ".join(wanted),
        is_good=good,
    )


def _planted(
    spec: BehaviorSpec, judged: BehaviorSpec, measured: Measurements, claim: ShiftClaim
) -> list[Rate]:
    """Plant no effect and the detectable effect beyond the claim's bound; count the passes."""
    level = (1.0 - spec.confidence) / 2.0 / family_size(spec) / len(spec.claims)
    evidence = gather(judged, measured)
    column = evidence.moves(claim.multiplier)
    bound = claim.at_least if claim.at_least is not None else claim.at_most
    assert bound is not None
    sign = 1.0 if claim.at_least is not None else -1.0
    moves = sign * (column.values - column.values.mean())
    resamples = max(_RESAMPLES, math.ceil(2.0 / level))
    effect = paired_mean(
        moves, clusters=column.clusters, value_range=(-2.0, 2.0), seed=0, num_resamples=resamples
    )
    detectable = effect.estimate(1.0 - 2.0 * level).minimum_detectable_effect
    if not math.isfinite(detectable):
        return [
            Rate(
                what=f"{claim.id}: planted effects",
                passed=0,
                trials=0,
                low=0.0,
                high=1.0,
                wanted=f"{len(moves)} moves cannot resolve the level {level:.2g}",
                is_good=False,
            )
        ]
    generator = np.random.default_rng([_STREAM, spec.seed])
    groups = _groups(column.clusters)
    counts = {0.0: 0, detectable: 0}
    for trial in range(PLANTED):
        drawn = [groups[g] for g in generator.integers(len(groups), size=len(groups))]
        names = [f"{place}" for place, rows in enumerate(drawn) for _ in rows]
        values: Float64[np.ndarray, " question"] = moves[np.concatenate(drawn)]
        for planted in counts:
            found = paired_mean(
                values + planted,
                clusters=names if len(groups) < len(moves) else [None] * len(values),
                value_range=(-2.0, 2.0),
                seed=trial,
                num_resamples=resamples,
            )
            counts[planted] += _shown(found, level)
    at_bound = proportion(counts[0.0], PLANTED).estimate(_CONFIDENCE)
    where = f"{claim.id}: effect planted at the bound {bound:g}"
    return [
        Rate(
            what=where,
            passed=counts[0.0],
            trials=PLANTED,
            low=at_bound.low,
            high=at_bound.high,
            wanted=f"at most {level:.2g} must be possible",
            is_good=at_bound.low <= level,
        ),
        _rate(f"{where} {sign * detectable:+.3g}", counts[detectable], PLANTED, above=POWER),
    ]


def _shown(inference: Inference, level: float) -> bool:
    """Whether the mean is shown to be above 0, by both methods where there are two."""
    both = [inference, inference.cross_check]
    if inference.estimate(1.0 - 2.0 * level).degenerate is not None:
        return False
    return all(one.p_greater(0.0) <= level for one in both if one is not None)


def _groups(clusters: tuple[str | None, ...]) -> list[list[int]]:
    """Rows that are drawn together: a cluster, or a question without one."""
    groups: dict[tuple[str, object], list[int]] = {}
    for row, name in enumerate(clusters):
        groups.setdefault(("row", row) if name is None else ("cluster", name), []).append(row)
    return list(groups.values())
