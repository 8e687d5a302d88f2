"""Behavior specs: one JSON file in, one frozen ``BehaviorSpec`` out.

The walk starts here.  A spec names a behaviour, the contrastive pairs its
steering vector is computed from, the held-out questions it is measured on, and
the claims the measurement must support.  Reading a spec touches no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Letter = Literal["A", "B"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePosition:
    """Where in a file something stands, for errors and for failing claims."""

    path: Path
    line: int
    column: int
    pointer: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.pointer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsPublished:
    """One letter order of a question, to the letter as a published data set has it."""

    question: str
    matching_letter: Letter


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastivePair:
    """A question and the two answers to it; the harness writes the letters."""

    question: str
    matching: str
    not_matching: str
    as_published: AsPublished | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutQuestion:
    """A question that no vector was computed from."""

    question: str
    matching: str
    not_matching: str
    cluster: str | None = None
    """Questions of one cluster (one stem, one passage) are not independent."""
    as_published: AsPublished | None = None

    @property
    def digest(self) -> str:
        """Hash of the texts: the question's name in measurements."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityItem:
    """A question with one right answer, to see what steering costs."""

    question: str
    options: tuple[str, ...]
    correct: int
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule:
    """Which decoder block to steer: a number, or a fraction of depth; models may override."""

    number: int | None = None
    fraction: float | None = None
    models: Mapping[str, int]

    def resolve(self, *, num_layers: int, model: str) -> int:
        """Return the block's number: ``floor(fraction * num_layers)`` unless said otherwise."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the measurement must support.  ``position`` is where the JSON says it."""

    id: str
    position: SourcePosition


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftClaim(Claim):
    """Mean score at ``multiplier`` minus at 0 is at least / at most a bound."""

    multiplier: float
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelClaim(Claim):
    """Mean score at ``multiplier`` (0: unsteered) is at least / at most a bound."""

    multiplier: float
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseResponseClaim(Claim):
    """Mean per-question slope over ``multipliers`` is at least a bound, and no step drops."""

    multipliers: tuple[float, ...]
    """Ascending, at least three; all of the spec's unless said otherwise."""
    at_least: float
    """Score per unit of multiplier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityClaim(Claim):
    """Steered minus unsteered stays above ``-max_loss`` at each multiplier (non-inferiority)."""

    multipliers: tuple[float, ...]
    max_loss: float
    metric: Literal["probability", "accuracy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMassClaim(Claim):
    """Mean p(A) + p(B) is at least a floor at each multiplier."""

    multipliers: tuple[float, ...]
    at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPartClaim(Claim):
    """Of the move at ``multiplier``, at most this share is letter."""

    multiplier: float
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NullClaim(Claim):
    """The shift beats random directions of equal norm and label-shuffled vectors."""

    multiplier: float
    draws: int
    """How many of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecificityClaim(Claim):
    """Other behaviours' questions move by at most this share of this behaviour's own move."""

    multiplier: float
    max_share: float
    against: tuple[str, ...]
    """Behaviours; empty: every other spec in the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorSpec:
    """Everything one spec file says, checked."""

    path: Path
    behavior: str
    description: str
    sign: str
    pairs: tuple[ContrastivePair, ...]
    held_out: tuple[HeldOutQuestion, ...]
    open_ended: tuple[str, ...]
    positive_system_prompt: str | None
    negative_system_prompt: str | None
    capability: tuple[CapabilityItem, ...]
    layer: LayerRule
    multipliers: tuple[float, ...]
    """Ascending, 0 among them."""
    claims: tuple[Claim, ...]
    confidence: float
    resamples: int
    seed: int
    family: str | None
    """Claims of all specs in the folder that name the same family share one error rate."""
    scoring: Literal["both_orders", "paper"]
    digest: str
    """SHA-256 over everything above that can move a number, whatever its layout in the file."""


def load_spec(path: Path) -> BehaviorSpec:
    """Read one spec file; see ``behavior_spec.schema.json`` for its keys."""
    raise NotImplementedError


def family_size(spec: BehaviorSpec) -> int:
    """How many spec files of the folder name this spec's family (1 where it names none)."""
    raise NotImplementedError


def sibling_specs(spec: BehaviorSpec) -> dict[str, BehaviorSpec]:
    """Load the other specs of the folder, by behavior, for ``specificity`` claims."""
    raise NotImplementedError
