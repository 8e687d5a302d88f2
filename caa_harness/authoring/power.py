"""Power before measuring: what each claim of a spec can find with its questions.

A spec comes in; for every claim, the error rate it is judged at in the worst
case, how many independent numbers it rests on, and the distance from its bound
that 80 of 100 runs would find go out.  Nobody has measured yet, so the spread
of one number is assumed, and said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from caa_harness.spec import (
    AnswerMassClaim,
    CapabilityClaim,
    DoseResponseClaim,
    LevelClaim,
    NullClaim,
    ShiftClaim,
    family_size,
    format_multiplier,
)
from caa_harness.statistics import minimum_detectable_effect, required_n

if TYPE_CHECKING:
    from collections.abc import Iterable

    from caa_harness.spec import BehaviorSpec, Claim

ASSUMED_SD: Final = {
    "shift": 0.2,
    "level": 0.3,
    "dose_response": 0.1,
    "answer_mass": 0.1,
    "letter_part": 0.2,
    "null": 0.2,
    "specificity": 0.2,
    "capability": 0.1,
    "capability by accuracy": 0.25,
}
"""Standard deviation of one question's number, by claim type: a guess until there is a run."""

OTHER_SD: Final = 0.2
"""For a claim type without an entry of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What one claim can find."""

    claim: Claim
    measured: str
    """What is estimated and held against which bound, in words."""
    alpha: float
    """One-sided level in Holm's first step, the strictest one."""
    n: int
    num_clusters: int
    """Independent groups among the ``n``."""
    sd: float
    """Assumed."""
    detectable: float | None
    """Distance from the bound found with 80 % power; ``None`` where no simple number says it."""
    room: float | None
    """Distance from the bound that the claim's good case has; ``None`` where open."""
    n_for_room: int | None
    """Independent questions with which ``room`` would be detectable."""

    @property
    def is_weak(self) -> bool:
        """Whether even the claim's good case would often stay undecided."""
        return self.detectable is not None and self.room is not None and self.detectable > self.room


def claim_powers(spec: BehaviorSpec, *, sd: float | None = None) -> tuple[Power, ...]:
    """Say what every claim of ``spec`` can find, in the file's order.

    Parameters
    ----------
    spec : BehaviorSpec
        Its folder says how many specs share the error rate.
    sd : float, optional
        Standard deviation of one question's number, instead of ``ASSUMED_SD``.

    Notes
    -----
    The good case, ``room``, is a harmless model for ``capability``, the whole mass for
    ``answer_mass``, the middle between the two bounds of a shift that has two, and else an
    effect of twice the bound, but at least 0.1 (for a slope 0.05) beyond it.
    """
    alpha = (1.0 - spec.confidence) / 2.0 / family_size(spec) / len(spec.claims)
    return tuple(_power(claim, spec, alpha, sd) for claim in spec.claims)


def num_independent(clusters: Iterable[str | None]) -> int:
    """Count clusters, and each question without one as one.

    Examples
    --------
    >>> num_independent(["a", "a", None, None])
    3
    """
    names = list(clusters)
    return len({name for name in names if name is not None}) + names.count(None)


def _power(claim: Claim, spec: BehaviorSpec, alpha: float, sd: float | None) -> Power:
    kind = claim.kind
    n = len(spec.held_out)
    independent = num_independent(question.cluster for question in spec.held_out)
    if isinstance(claim, CapabilityClaim):
        n = independent = len(spec.capability)
        kind = "capability by accuracy" if claim.metric == "accuracy" else kind
    spread = ASSUMED_SD.get(kind, OTHER_SD) if sd is None else sd
    has_distance = isinstance(
        claim, ShiftClaim | LevelClaim | DoseResponseClaim | AnswerMassClaim | CapabilityClaim
    )
    found = minimum_detectable_effect(spread, independent, alpha=alpha) if has_distance else None
    room = _room(claim)
    return Power(
        claim=claim,
        measured=measured_words(claim),
        alpha=alpha,
        n=n,
        num_clusters=independent,
        sd=spread,
        detectable=found,
        room=room,
        n_for_room=None if room is None else required_n(spread, room, alpha=alpha),
    )


def _room(claim: Claim) -> float | None:
    """How far from its bound a claim's good case lies."""
    match claim:
        case CapabilityClaim():
            return claim.max_loss
        case AnswerMassClaim():
            return 1.0 - claim.at_least
        case DoseResponseClaim():
            return max(abs(claim.at_least), 0.05)
        case ShiftClaim() if claim.at_least is not None and claim.at_most is not None:
            return (claim.at_most - claim.at_least) / 2.0
        case ShiftClaim():
            return max(abs(b) for b in (claim.at_least, claim.at_most, 0.1) if b is not None)
        case _:
            return None


def measured_words(claim: Claim) -> str:  # noqa: PLR0911  (one for each kind)
    """Say what is estimated for a claim, and which bound it is held against."""
    at = format_multiplier(getattr(claim, "multiplier", 0.0))
    many = ", ".join(map(format_multiplier, getattr(claim, "multipliers", ())))
    bounds = " and ".join(
        f"{word} {value:g}"
        for word, value in (
            ("at least", getattr(claim, "at_least", None)),
            ("at most", getattr(claim, "at_most", None)),
        )
        if value is not None and math.isfinite(value)
    )
    match claim.kind:
        case "shift":
            return f"mean score at {at} minus at +0, {bounds}"
        case "level":
            return f"mean score at {at}, {bounds}"
        case "dose_response":
            return f"mean slope per unit multiplier over {many}, {bounds}, and no step that drops"
        case "answer_mass":
            return f"mean p(A) + p(B) at each of {many}, {bounds}"
        case "letter_part":
            return f"share of the move at {at} that is letter, {bounds}"
        case "capability":
            metric, loss = getattr(claim, "metric", ""), getattr(claim, "max_loss", 0.0)
            return f"loss in {metric} of the right option at each of {many}, at most {loss:g}"
        case "null":
            draws = claim.draws if isinstance(claim, NullClaim) else 0
            return f"rank of the shift at {at} among {draws} random and {draws} shuffled vectors"
        case "specificity":
            share = getattr(claim, "max_share", 0.0)
            return f"move of other behaviors' questions at {at}, at most {share:g} of the own one"
        case _:
            return claim.kind if not bounds else f"{claim.kind}, {bounds}"
