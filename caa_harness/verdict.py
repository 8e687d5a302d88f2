"""Verdicts: each claim of a spec against what was measured.

Measurements and a spec come in; a pass, a fail or an undecided verdict per
claim goes out, with the numbers it rests on.  Nothing here runs a model.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from caa_harness import scores, statistics
from caa_harness.claims import Case, Direction, Requirement, lay_out, widest
from caa_harness.evidence import Evidence, check_match, gather
from caa_harness.measurements import Measurements
from caa_harness.spec import BehaviorSpec, Claim, SpecificityClaim, family_size, sibling_specs
from caa_harness.statistics import Estimate, ValueRange

if TYPE_CHECKING:
    from jaxtyping import Float64

Outcome = Literal["pass", "fail", "inconclusive"]

_MOST_DIGITS = 330
"""Enough for the smallest number there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One inference of a claim: an estimate that must lie above or below a bound."""

    name: str
    """What was estimated, such as ``shift at +1``."""
    estimate: Estimate
    """At the confidence at which the claim was judged."""
    bound: float
    direction: Direction
    p_holds: float
    """One-sided p of "this part does not hold": small supports the claim."""
    p_violated: float
    n_needed: int | None
    """Questions that would decide this part, were the point estimate the truth.

    ``None`` where the interval decides it already, or where no number would.
    """
    is_required: bool
    """Whether a pass needs this part shown; else it must only not be refuted."""
    is_difference: bool
    """Whether the numbers carry their sign when printed."""

    @property
    def is_shown(self) -> bool:
        """Whether the interval lies on the bound's good side."""
        if self.direction == "at_least":
            return self.estimate.low > self.bound
        return self.estimate.high < self.bound

    @property
    def is_refuted(self) -> bool:
        """Whether the interval lies on the bound's bad side."""
        if self.direction == "at_least":
            return self.estimate.high < self.bound
        return self.estimate.low > self.bound

    @property
    def digits(self) -> int:
        """Decimals with which point, low and high stay on the bound's true side."""
        numbers = (self.estimate.point, self.estimate.low, self.estimate.high)
        for digits in range(3, _MOST_DIGITS):
            if all(
                _side(float(f"{number:.{digits}f}"), self.bound) == _side(number, self.bound)
                for number in numbers
            ):
                return digits
        return _MOST_DIGITS

    @property
    def interval_text(self) -> str:
        """``+0.153 [+0.101, +0.204]``, with as many decimals as ``digits`` says."""
        form = f"{'+' if self.is_difference else ''}.{self.digits}f"
        estimate = self.estimate
        return f"{estimate.point:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"

    @property
    def bound_text(self) -> str:
        """The bound as the claim has it."""
        return f"{self.bound:g}" if float(f"{self.bound:g}") == self.bound else repr(self.bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim's outcome and why."""

    claim: Claim
    outcome: Outcome
    reason: str
    """One sentence, numbers with n and interval."""
    parts: tuple[Part, ...]
    p_pass: float
    """Holm-adjusted over the spec's claims."""
    p_fail: float
    alpha: float
    """One-sided error rate this spec has to spend."""
    behavior: str
    spec_digest: str
    model: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiplierSummary:
    """What one multiplier did; intervals at the spec's confidence, each taken alone."""

    multiplier: float
    score: Estimate
    shift: Estimate | None
    """Steered minus unsteered; ``None`` at 0."""
    wrong_way: float | None
    """Share of the questions that move against the multiplier's sign; ``None`` at 0."""
    letter: Estimate | None
    """Move of p(A) with the answers behind the letters cancelled; ``None`` at 0, or one order."""
    mass_mean: float
    mass_lowest: float
    num_unscored: int
    capability: Estimate | None
    """Probability of the right option; ``None`` where no probe was asked."""
    capability_loss: Estimate | None
    """Steered minus unsteered probability; ``None`` at 0 as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorSummary:
    """One behaviour's numbers and outcomes, as every report shows them."""

    behavior: str
    model: str
    layer: int
    spec_digest: str
    confidence: float
    num_questions: int
    num_capability_items: int
    multipliers: tuple[MultiplierSummary, ...]
    """Ascending."""
    outcomes: tuple[tuple[str, Outcome], ...]
    """Id and outcome of every claim, in the file's order."""
    outcome: Outcome
    """Fail if any claim fails, else inconclusive if any is, else pass."""
    warnings: tuple[str, ...]

    @property
    def unsteered(self) -> Estimate:
        """Mean score without steering."""
        return self.at(0.0).score

    def at(self, multiplier: float) -> MultiplierSummary:
        """Return the numbers at one multiplier; ``KeyError`` where it was not measured."""
        for summary in self.multipliers:
            if summary.multiplier == multiplier:
                return summary
        raise KeyError(multiplier)


def judge(
    spec: BehaviorSpec,
    measurements: Measurements,
    *,
    layer: int | None = None,
    num_specs: int | None = None,
    siblings: Collection[str] | None = None,
) -> tuple[Verdict, ...]:
    """Judge every claim of ``spec``, in the file's order.

    A claim rests on parts, each a parameter that must lie on one side of a bound.
    It passes when every part is shown to hold (intersection-union: its p is the
    largest one), it fails when some part is shown not to (its p is the smallest one
    times the number of parts), and is inconclusive otherwise.  Both kinds of p are
    Holm-adjusted over the spec's claims at ``alpha = (1 - confidence) / 2``, divided
    by the number of specs in the family.

    Parameters
    ----------
    spec, measurements
        What is claimed, and what was measured for it.
    layer
        Block that was steered on request, instead of the one the spec's rule gives.
    num_specs
        Specs that share the error rate; read from the spec's folder unless given.
    siblings
        Behaviours that a ``specificity`` claim without ``against`` covers; those of the
        spec's folder unless given.

    Raises
    ------
    MeasurementError
        When the measurements were made for another spec, layer or set of questions.
    """
    check_match(spec, measurements, layer)
    num_specs = family_size(spec) if num_specs is None else num_specs
    assert num_specs >= 1, num_specs
    alpha = (1.0 - spec.confidence) / 2.0 / num_specs
    with np.errstate(invalid="ignore"):  # a letter of probability 0: no score, and said so
        evidence = gather(spec, measurements, siblings=_compared(spec, siblings))
        cases = [lay_out(claim, evidence) for claim in spec.claims]
    cases = [_resolved(case, spec.resamples, alpha / len(cases)) for case in cases]
    passing = _Ladder.climb([_p_pass(case) for case in cases], alpha)
    failing = _Ladder.climb([_p_fail(case) for case in cases], alpha)
    return tuple(
        _decide(claim, case, passed, failed, alpha=alpha, measurements=measurements)
        for claim, case, passed, failed in zip(spec.claims, cases, passing, failing, strict=True)
    )


def summarise(
    spec: BehaviorSpec, measurements: Measurements, verdicts: Sequence[Verdict]
) -> BehaviorSummary:
    """Put one behaviour's numbers together for reports; no layer or family is checked here."""
    with np.errstate(invalid="ignore"):
        evidence = gather(spec, measurements)
        at = tuple(_summary_at(m, evidence) for m in sorted(measurements.multipliers))
    outcomes = tuple((verdict.claim.id, verdict.outcome) for verdict in verdicts)
    probe = measurements.capability
    return BehaviorSummary(
        behavior=measurements.behavior,
        model=measurements.model.name,
        layer=measurements.vector.layer,
        spec_digest=measurements.spec_digest,
        confidence=spec.confidence,
        num_questions=len(measurements.questions),
        num_capability_items=0 if probe is None else len(probe.correct),
        multipliers=at,
        outcomes=outcomes,
        outcome=overall([outcome for _, outcome in outcomes]),
        warnings=tuple(dict.fromkeys(note for verdict in verdicts for note in verdict.warnings)),
    )


def overall(outcomes: Collection[Outcome]) -> Outcome:
    """Combine outcomes: fail before inconclusive before pass; nothing judged is inconclusive.

    Examples
    --------
    >>> overall(["pass", "inconclusive"])
    'inconclusive'
    >>> overall([])
    'inconclusive'
    """
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes and all(o == "pass" for o in outcomes) else "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ladder:
    """One claim's place in Holm's procedure."""

    p: float
    """Adjusted."""
    level: float
    """One-sided level at which the claim was judged."""
    is_rejected: bool

    @staticmethod
    def climb(p_values: Sequence[float], alpha: float) -> list[_Ladder]:
        """Adjust, and say at which level each claim was judged."""
        adjusted = statistics.holm(p_values)
        divisors = statistics.holm_divisors(p_values, alpha=alpha)
        return [
            _Ladder(p=p, level=alpha / divisor, is_rejected=p <= alpha)
            for p, divisor in zip(adjusted, divisors, strict=True)
        ]


def _resolved(case: Case, num_resamples: int, level: float) -> Case:
    """Draw as many resamples as the first step of Holm's procedure can ask for.

    A pass needs every part at ``level``; a fail needs only the worst part, at a level
    shared over all of them.
    """
    if not case.requirements:
        return case
    parts = [requirement.resolved(num_resamples, level) for requirement in case.requirements]
    worst = min(range(len(parts)), key=lambda row: parts[row].distance)
    if parts[worst].distance < 0.0:
        parts[worst] = parts[worst].resolved(num_resamples, level / len(parts))
    return replace(case, requirements=tuple(parts))


def _p_pass(case: Case) -> float:
    """Intersection-union: the claim is no surer than its weakest part."""
    if case.undecidable is not None or case.obstacles:
        return 1.0
    return max((r.p_holds for r in case.requirements if r.is_required), default=1.0)


def _p_fail(case: Case) -> float:
    """Bonferroni over the parts, any of which can fail the claim."""
    if case.undecidable is not None or not case.requirements:
        return 1.0
    return min(1.0, len(case.requirements) * min(r.p_violated for r in case.requirements))


def _decide(
    claim: Claim,
    case: Case,
    passed: _Ladder,
    failed: _Ladder,
    *,
    alpha: float,
    measurements: Measurements,
) -> Verdict:
    """Turn a case and its place in both of Holm's procedures into a verdict."""
    outcome: Outcome = "inconclusive"
    fail_level = failed.level / max(len(case.requirements), 1)
    if passed.is_rejected and not failed.is_rejected:
        outcome = "pass"
    elif failed.is_rejected and not passed.is_rejected:
        outcome = "fail"
    parts = tuple(
        _part(requirement, outcome, pass_level=passed.level, fail_level=fail_level)
        for requirement in case.requirements
    )
    # The intervals are what a reader checks a verdict by: where they do not bear it
    # out, there is none.
    borne_out = {
        "pass": all(p.is_shown if p.is_required else not p.is_refuted for p in parts),
        "fail": any(p.is_refuted for p in parts),
        "inconclusive": True,
    }[outcome]
    if not borne_out:
        outcome = "inconclusive"
        case = replace(case, obstacles=("its p and its interval disagree",))
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=_reason(case, parts, outcome),
        parts=parts,
        p_pass=passed.p,
        p_fail=failed.p,
        alpha=alpha,
        behavior=measurements.behavior,
        spec_digest=measurements.spec_digest,
        model=measurements.model.name,
        warnings=(*case.warnings, *_too_uniform(case, parts), *_close_calls(parts)),
    )


def _part(
    requirement: Requirement, outcome: Outcome, *, pass_level: float, fail_level: float
) -> Part:
    """Estimate a requirement at the level that decided it.

    A part that fails the claim is printed at the level of the fail, every other one
    at that of the pass; but where an undecided part would then look like a fail, it is
    printed at the stricter level of the fail.
    """
    fails = outcome == "fail" and requirement.p_violated <= fail_level
    level = fail_level if fails else pass_level
    if requirement.veto_alpha is not None and outcome != "fail":
        level = min(level, requirement.veto_alpha)
    part = _part_at(requirement, level, pass_level=pass_level, fail_level=fail_level)
    if outcome == "inconclusive" and part.is_refuted:
        level = min(level, fail_level)
        part = _part_at(requirement, level, pass_level=pass_level, fail_level=fail_level)
    return part


def _part_at(
    requirement: Requirement, level: float, *, pass_level: float, fail_level: float
) -> Part:
    """Estimate a requirement with each end of the interval at one-sided ``level``."""
    estimate = requirement.estimate(level)
    upward = requirement.direction == "at_least"
    points_to_pass = (estimate.point > requirement.bound) == upward
    is_open = estimate.low <= requirement.bound <= estimate.high
    return Part(
        name=requirement.name,
        estimate=estimate,
        bound=requirement.bound,
        direction=requirement.direction,
        p_holds=requirement.p_holds,
        p_violated=requirement.p_violated,
        n_needed=(
            requirement.inference.n_needed(
                requirement.bound, alpha=pass_level if points_to_pass else fail_level
            )
            if is_open
            else None
        ),
        is_required=requirement.is_required,
        is_difference=requirement.is_difference,
    )


def _reason(case: Case, parts: Sequence[Part], outcome: Outcome) -> str:
    """Say what decided, or what would."""
    if case.undecidable is not None:
        return case.undecidable
    required = [part for part in parts if part.is_required]
    if outcome == "fail":
        telling = min(parts, key=lambda part: part.p_violated)
    else:
        telling = max(required, key=lambda part: part.p_holds)
    of = f" (closest of {len(parts)})" if len(parts) > 1 and outcome != "fail" else ""
    of = f" (worst of {len(parts)})" if len(parts) > 1 and outcome == "fail" else of
    word = "at least" if telling.direction == "at_least" else "at most"
    estimate = telling.estimate
    n = f"n = {estimate.n}"
    if estimate.num_clusters is not None:
        n += f" in {estimate.num_clusters} clusters"
    judged = f"{n}, {_percent(estimate.confidence)} interval"
    sentences = [
        f"{telling.name} is {telling.interval_text} ({judged}){of}",
        f"it must be {word} {telling.bound_text}",
        *case.facts,
    ]
    if outcome == "inconclusive":
        sentences += case.obstacles
        if estimate.degenerate is not None and not case.obstacles:
            sentences.append(estimate.degenerate)
        if not case.obstacles:
            sentences.append(_what_would_decide(parts, case.unit))
    return "; ".join(dict.fromkeys(sentences))


def _what_would_decide(parts: Sequence[Part], unit: str) -> str:
    """How many questions would settle the parts that are not settled."""
    open_parts = [part for part in parts if part.is_required and not part.is_shown]
    against = [part.n_needed for part in open_parts if _points_to_fail(part)]
    numbers = [number for number in against or (part.n_needed for part in open_parts) if number]
    # One part can fail a claim, all of them must hold for it to pass.
    needed = min(numbers, default=None) if against else max(numbers, default=None)
    if needed is None:
        return f"no number of {unit} would decide it from here"
    at_least = 1 + max((part.estimate.n for part in open_parts), default=0)
    return f"about {max(needed, at_least):,} {unit} would decide it"


def _points_to_fail(part: Part) -> bool:
    """Whether the point estimate lies on the bound's bad side."""
    if part.direction == "at_least":
        return part.estimate.point < part.bound
    return part.estimate.point > part.bound


def _too_uniform(case: Case, parts: Sequence[Part]) -> tuple[str, ...]:
    """Warn where the data are too uniform for the usual method, but not for the claim."""
    if case.obstacles:
        return ()
    return tuple(
        f"{part.name}: {part.estimate.degenerate}"
        for part in parts
        if part.is_required and part.estimate.degenerate is not None
    )


def _close_calls(parts: Sequence[Part]) -> tuple[str, ...]:
    """Warn where another seed could turn the verdict."""
    return tuple(
        f"{part.name} is within Monte Carlo error of {part.bound_text}: raise resamples"
        for part in parts
        if part.is_required and part.estimate.is_close_call(part.bound)
    )


def _percent(confidence: float) -> str:
    """Write a confidence with digits enough to tell it from 100 %."""
    for digits in range(8):
        text = f"{100 * confidence:.{digits}f}"
        if abs(float(text) / 100 - confidence) <= 0.02 * (1.0 - confidence):
            break
    return f"{text} %"


def _side(number: float, bound: float) -> int:
    """-1 below, 0 on, 1 above the bound; a number that is none is on neither side."""
    return int(number > bound) - int(number < bound)


def _compared(spec: BehaviorSpec, siblings: Collection[str] | None) -> tuple[str, ...]:
    """Name the behaviours that a specificity claim without a list of its own covers."""
    if siblings is not None:
        return tuple(sorted(siblings))
    if not any(isinstance(claim, SpecificityClaim) and not claim.against for claim in spec.claims):
        return ()
    return tuple(sorted(sibling_specs(spec)))


def _summary_at(multiplier: float, evidence: Evidence) -> MultiplierSummary:
    """Describe one multiplier, each number with its own plain interval."""
    score, mass = evidence.at(evidence.score, multiplier), evidence.at(evidence.mass, multiplier)
    weighed = mass[np.isfinite(mass)]
    letter = evidence.moved(evidence.letter, multiplier)
    steered = multiplier != 0.0
    probe_level, probe_loss = _probe_at(multiplier, evidence)
    return MultiplierSummary(
        multiplier=multiplier,
        score=_describe(score, evidence, value_range=(0.0, 1.0)),
        shift=_describe(evidence.moved(evidence.score, multiplier), evidence) if steered else None,
        wrong_way=evidence.wrong_way(multiplier) if steered else None,
        letter=_describe(letter, evidence) if steered and np.isfinite(letter).any() else None,
        mass_mean=float(weighed.mean()) if len(weighed) else math.nan,
        mass_lowest=float(weighed.min()) if len(weighed) else math.nan,
        num_unscored=int((~np.isfinite(score)).sum()),
        capability=probe_level,
        capability_loss=probe_loss if steered else None,
    )


def _probe_at(
    multiplier: float, evidence: Evidence
) -> tuple[Estimate, Estimate] | tuple[None, None]:
    """Describe the capability probe at one multiplier: its level, and the change from 0."""
    probe = evidence.measurements.capability
    if probe is None or not {multiplier, 0.0} <= set(probe.multipliers):
        return None, None
    table = scores.capability_probability(probe)
    steered, unsteered = (table[probe.multipliers.index(m)] for m in (multiplier, 0.0))
    alone = (None,) * len(steered)
    return (
        _describe(steered, evidence, value_range=(0.0, 1.0), clusters=alone),
        _describe(steered - unsteered, evidence, clusters=alone),
    )


def _describe(
    values: Float64[np.ndarray, " question"],
    evidence: Evidence,
    *,
    value_range: ValueRange = (-1.0, 1.0),
    clusters: tuple[str | None, ...] | None = None,
) -> Estimate:
    """Estimate a mean over whatever was scored, however little: a description judges nothing."""
    scored = np.isfinite(values)
    names = evidence.clusters if clusters is None else clusters
    inference = statistics.paired_mean(
        values[scored],
        clusters=[name for name, keep in zip(names, scored, strict=True) if keep],
        value_range=value_range,
        seed=evidence.spec.seed,
        num_resamples=evidence.spec.resamples,
    )
    return widest(inference, confidence=evidence.spec.confidence)
