"""The types of a spec: frozen, checked, and nothing but data.

A spec can be written back as the JSON object that it comes from; its digest is
the hash of that object.  Nothing here reads a file.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from caa_harness.errors import SpecError
from caa_harness.strict_json import format_where

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Letter = Literal["A", "B"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePosition:
    """Where in a file something stands, for errors and for failing claims."""

    path: Path
    line: int
    column: int
    pointer: str

    def __str__(self) -> str:
        """Write the position as messages do."""
        return format_where(self.path, self.line, self.column, self.pointer)


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
        return digest_json(_two_answers_json(self), length=16)


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
    """By full name, or by its last part after the slash."""
    position: SourcePosition | None = field(default=None, compare=False)

    def resolve(self, *, num_layers: int, model: str) -> int:
        """Return the block's number: ``floor(fraction * num_layers)`` unless said otherwise.

        Raises
        ------
        SpecError
            When the model has no such block.

        Examples
        --------
        >>> LayerRule(fraction=0.4, models={}).resolve(num_layers=32, model="Llama-2-7b-chat-hf")
        12
        """
        basename = model.rstrip("/").rpartition("/")[2]
        named = self.models.get(model, self.models.get(basename))
        if named is not None:
            number = named
        elif self.number is not None:
            number = self.number
        else:
            assert self.fraction is not None
            # Through the decimal digits: 0.29 of 100 layers is 29, which floats call 28.99.
            number = math.floor(Fraction(repr(self.fraction)) * num_layers)
        if not 0 <= number < num_layers:
            raise SpecError(
                f"layer {number} is outside the model {model}, whose {num_layers} layers "
                f"are counted from 0 to {num_layers - 1}",
                where=str(self.position) if self.position else "layer",
                remedy=f'write a number from 0 to {num_layers - 1}, or {{"fraction": 0.4}}, '
                f'or add "models": {{"{basename}": ...}}',
            )
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the measurement must support.  ``position`` is where the JSON says it."""

    kind: ClassVar[str]
    """``type`` in the file."""
    id: str
    """As in the file, else made of the type and its multipliers."""
    position: SourcePosition = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftClaim(Claim):
    """Mean score at ``multiplier`` minus at 0 is at least / at most a bound."""

    kind: ClassVar[str] = "shift"
    multiplier: float
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelClaim(Claim):
    """Mean score at ``multiplier`` (0: unsteered) is at least / at most a bound."""

    kind: ClassVar[str] = "level"
    multiplier: float
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseResponseClaim(Claim):
    """Mean per-question slope over ``multipliers`` is at least a bound, and no step drops."""

    kind: ClassVar[str] = "dose_response"
    multipliers: tuple[float, ...]
    """Ascending, at least three; all of the spec's unless said otherwise."""
    at_least: float
    """Score per unit of multiplier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityClaim(Claim):
    """Steered minus unsteered stays above ``-max_loss`` at each multiplier (non-inferiority)."""

    kind: ClassVar[str] = "capability"
    multipliers: tuple[float, ...]
    max_loss: float
    metric: Literal["probability", "accuracy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMassClaim(Claim):
    """Mean p(A) + p(B) is at least a floor at each multiplier."""

    kind: ClassVar[str] = "answer_mass"
    multipliers: tuple[float, ...]
    at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPartClaim(Claim):
    """Of the move at ``multiplier``, at most this share is letter."""

    kind: ClassVar[str] = "letter_part"
    multiplier: float
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NullClaim(Claim):
    """The shift beats random directions of equal norm and label-shuffled vectors."""

    kind: ClassVar[str] = "null"
    multiplier: float
    draws: int
    """How many of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecificityClaim(Claim):
    """Other behaviours' questions move by at most this share of this behaviour's own move."""

    kind: ClassVar[str] = "specificity"
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
    """SHA-256 over everything that can move a measured number, whatever its layout in the file.

    Claims, confidence, resamples and family decide how numbers are judged and are not in it, so
    that recorded measurements can be judged again under others.
    """


def spec_json(spec: BehaviorSpec) -> dict[str, Any]:
    """Write a spec as the JSON object that :func:`load_spec` reads back as the same spec.

    Every row stands in it, and every default is written out.
    """
    document: dict[str, Any] = {
        "schema_version": 1,
        "behavior": spec.behavior,
        "description": spec.description,
        "sign": spec.sign,
        "pairs": [_two_answers_json(pair) for pair in spec.pairs],
        "held_out": [
            _two_answers_json(question) | _given(cluster=question.cluster)
            for question in spec.held_out
        ],
        "open_ended": [{"prompt": prompt} for prompt in spec.open_ended],
    }
    if spec.positive_system_prompt is not None:
        document["system_prompts"] = {
            "positive": spec.positive_system_prompt,
            "negative": spec.negative_system_prompt,
        }
    if spec.capability:
        document["capability"] = [
            {"question": item.question, "options": list(item.options), "correct": item.correct}
            | _given(category=item.category)
            for item in spec.capability
        ]
    document["layer"] = _given(
        fraction=spec.layer.fraction,
        number=spec.layer.number,
        models=dict(spec.layer.models) or None,
    )
    document["multipliers"] = [_shortest(value) for value in spec.multipliers]
    document["claims"] = [_claim_json(claim) for claim in spec.claims]
    return document | _given(
        confidence=spec.confidence,
        resamples=spec.resamples,
        seed=spec.seed,
        family=spec.family,
        scoring=spec.scoring,
    )


def _claim_json(claim: Claim) -> dict[str, Any]:
    document: dict[str, Any] = {"id": claim.id, "type": claim.kind}
    for one in fields(claim):
        value = getattr(claim, one.name)
        if one.name in ("id", "position") or value is None or value == ():
            continue
        document[one.name] = list(value) if isinstance(value, tuple) else value
    return document


def _two_answers_json(row: ContrastivePair | HeldOutQuestion) -> dict[str, Any]:
    document: dict[str, Any] = {
        "question": row.question,
        "matching": row.matching,
        "not_matching": row.not_matching,
    }
    if row.as_published is not None:
        document["as_published"] = {
            "question": row.as_published.question,
            "matching_letter": row.as_published.matching_letter,
        }
    return document


def _given(**parts: Any) -> dict[str, Any]:
    """Only the parts that are there."""
    return {key: value for key, value in parts.items() if value is not None}


def _shortest(value: float) -> float:
    return int(value) if value.is_integer() else value


def digest_json(value: Any, *, length: int = 64) -> str:
    """SHA-256 over one way of writing the value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
