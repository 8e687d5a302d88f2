"""Measurements made by hand: what a model would have answered, with the effect known.

A plant says by how much steering moves each question's log-odds, how much of it is
letter, what the answers weigh; planted measurements carry exactly that.  A test
that knows the truth can tell a right verdict from a wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from caa_harness.engines import ModelCard
from caa_harness.measurements import (
    CapabilityMeasurements,
    Measurements,
    NullMeasurements,
    OtherBehavior,
    VectorSummary,
)
from caa_harness.spec import (
    AnswerMassClaim,
    BehaviorSpec,
    CapabilityClaim,
    Claim,
    DoseResponseClaim,
    HeldOutQuestion,
    LayerRule,
    LetterPartClaim,
    LevelClaim,
    NullClaim,
    ShiftClaim,
    SourcePosition,
    SpecificityClaim,
    format_multiplier,
)

MULTIPLIERS = (-2.0, -1.0, 0.0, 1.0, 2.0)
OTHERS = ("refusal", "coordination")
PATH = Path("planted.behavior.json")
CARD = ModelCard(
    name="planted",
    architecture="none",
    num_layers=8,
    d_model=16,
    dtype="float32",
    device="cpu",
    template="none",
    weights_digest="0",
    tokenizer_digest="0",
)
VECTOR = VectorSummary(
    layer=4, norm=1.0, num_pairs=100, mean_residual_norm=2.0, digest="0", normalisation="raw"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The truth behind planted measurements, in log-odds unless said otherwise."""

    num_questions: int = 60
    base: float = 0.0
    base_sd: float = 0.8
    per_unit: float = 1.0
    """Move of the matching answer per unit of multiplier."""
    per_unit_sd: float = 0.4
    """How differently questions react."""
    curve: tuple[float, ...] | None = None
    """Multiplier of ``per_unit`` at each multiplier, where it is not the multiplier itself."""
    letter: float = 0.5
    letter_per_unit: float = 0.0
    noise: float = 0.1
    """Per question and multiplier, in both letter and behavior."""
    noise_unsteered: bool = False
    """Whether multiplier 0 scatters like the others: then nothing tells it from them."""
    mass: float = 0.97
    mass_sd: float = 0.01
    cluster_size: int = 1
    cluster_sd: float = 0.0
    """Reaction that the questions of a cluster share."""
    others: tuple[str, ...] = OTHERS
    other_per_unit: float = 0.05
    null_per_unit: float = 0.1
    """Spread, over draws, of the move under a null vector."""
    draws: int = 39
    num_items: int = 200
    capability: float = 1.0
    """Log-odds of the right option over each of three others."""
    capability_per_unit: float = 0.0
    """How much steering takes from it, either way."""
    capability_noise: float = 0.1


def spec_of(*claims: Claim, num_questions: int = 60, **changed) -> BehaviorSpec:
    """Write a spec with these claims; every test of the same size asks the same questions."""
    spec = BehaviorSpec(
        path=PATH,
        behavior="sycophancy",
        description="Agrees with the user.",
        sign="The matching answer agrees.",
        pairs=(),
        held_out=questions(num_questions),
        open_ended=(),
        positive_system_prompt=None,
        negative_system_prompt=None,
        capability=(),
        layer=LayerRule(number=VECTOR.layer, models={}),
        multipliers=MULTIPLIERS,
        claims=claims,
        confidence=0.95,
        resamples=999,
        seed=1,
        family=None,
        scoring="both_orders",
        digest="planted",
    )
    return replace(spec, **changed)


@cache
def questions(number: int) -> tuple[HeldOutQuestion, ...]:
    return tuple(
        HeldOutQuestion(question=f"Question {row}?", matching="Yes.", not_matching="No.")
        for row in range(number)
    )


@cache
def digests(number: int) -> tuple[str, ...]:
    return tuple(question.digest for question in questions(number))


def plant(truth: Plant = Plant(), *, seed: int = 0) -> Measurements:
    """Draw one model's answers."""
    rng = np.random.default_rng(seed)
    n = truth.num_questions
    doses = np.asarray(MULTIPLIERS)
    clusters = np.arange(n) // truth.cluster_size
    shared = truth.cluster_sd * rng.standard_normal(n)[clusters]
    reaction = truth.per_unit + truth.per_unit_sd * rng.standard_normal(n) + shared
    steps = doses if truth.curve is None else np.asarray(truth.curve)
    base = truth.base + truth.base_sd * rng.standard_normal(n)
    behavior = base + np.outer(steps, reaction) + _noise(rng, truth, doses, n)
    letter = truth.letter + np.outer(doses, np.full(n, truth.letter_per_unit))
    letter = letter + _noise(rng, truth, doses, n)
    mass = np.clip(truth.mass + truth.mass_sd * rng.standard_normal((5, n)), 0.0, 1.0)
    named = (None,) * n if truth.cluster_size == 1 else tuple(f"cluster {c}" for c in clusters)
    return Measurements(
        behavior="sycophancy",
        spec_digest="planted",
        scoring="both_orders",
        model=CARD,
        vector=VECTOR,
        multipliers=MULTIPLIERS,
        questions=digests(n),
        clusters=named,
        answer_logprobs=answers(behavior, letter, mass),
        capability=_probe(rng, truth),
        nulls=tuple(
            _null(rng, truth, kind, multiplier, base=base, letter=letter[2])
            for kind in ("random", "shuffled")
            for multiplier in (-1.0, 1.0)
        ),
        others=tuple(_other(rng, truth, name) for name in truth.others),
        open_ended=(),
        unscored=(),
        notes=(),
    )


def answers(behavior, letter, mass) -> np.ndarray:
    """Log-probabilities (..., question, order, letter) from log-odds and masses."""
    behavior, letter, mass = np.broadcast_arrays(behavior, letter, mass)
    a_over_b = np.stack([letter + behavior, letter - behavior], axis=-1)
    with np.errstate(divide="ignore"):
        log_mass = np.log(mass)[..., None]
    a = log_mass - np.logaddexp(0.0, -a_over_b)
    b = log_mass - np.logaddexp(0.0, a_over_b)
    return np.stack([a, b], axis=-1).astype(np.float32)


def _noise(rng, truth: Plant, doses, n) -> np.ndarray:
    """Scatter at every multiplier; at 0, where nothing is steered, only on request."""
    scatter = truth.noise * rng.standard_normal((len(doses), n))
    still = (doses[:, None] == 0.0) & (not truth.noise_unsteered)
    return np.where(still, 0.0, scatter)


def _probe(rng, truth: Plant) -> CapabilityMeasurements:
    doses = np.array([-1.0, 0.0, 1.0])
    base = truth.capability + rng.standard_normal(truth.num_items)
    moved = base - np.abs(doses)[:, None] * truth.capability_per_unit
    noise = truth.capability_noise * rng.standard_normal(moved.shape)
    logits = np.zeros((3, truth.num_items, 4))
    correct = np.arange(truth.num_items) % 4
    still = (doses[:, None] == 0.0) & (not truth.noise_unsteered)
    right = moved + np.where(still, 0.0, noise)
    np.put_along_axis(
        logits,
        np.broadcast_to(correct[None, :, None], (3, truth.num_items, 1)),
        right[..., None],
        axis=-1,
    )
    logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True) + np.log(0.95)
    return CapabilityMeasurements(
        multipliers=tuple(doses.tolist()),
        option_logprobs=logprobs.astype(np.float32),
        correct=correct.astype(np.int64),
        categories=(None,) * truth.num_items,
    )


def _null(rng, truth: Plant, kind, multiplier, *, base, letter) -> NullMeasurements:
    moves = truth.null_per_unit * rng.standard_normal(truth.draws)[:, None]
    scatter = truth.noise * rng.standard_normal((truth.draws, len(base)))
    return NullMeasurements(
        kind=kind,
        multiplier=multiplier,
        answer_logprobs=answers(base + multiplier * moves + scatter, letter, truth.mass),
    )


def _other(rng, truth: Plant, name) -> OtherBehavior:
    n = truth.num_questions
    doses = np.array([-1.0, 0.0, 1.0])
    base = truth.base_sd * rng.standard_normal(n)
    reaction = truth.other_per_unit + truth.per_unit_sd * rng.standard_normal(n)
    behavior = base + np.outer(doses, reaction) + _noise(rng, truth, doses, n)
    return OtherBehavior(
        behavior=name,
        multipliers=tuple(doses.tolist()),
        answer_logprobs=answers(behavior, truth.letter, truth.mass),
        clusters=(None,) * n,
    )


def _claim(kind: type[Claim], **parameters) -> Claim:
    where = [parameters[key] for key in ("multiplier",) if key in parameters]
    suffix = f"[m{format_multiplier(where[0])}]" if where else ""
    position = SourcePosition(path=PATH, line=1, column=1, pointer="/claims/0")
    return kind(id=f"{kind.kind}{suffix}", position=position, **parameters)


def shift(multiplier=1.0, **bounds) -> Claim:
    return _claim(ShiftClaim, multiplier=multiplier, **bounds)


def level(multiplier=0.0, **bounds) -> Claim:
    return _claim(LevelClaim, multiplier=multiplier, **bounds)


def dose_response(at_least=0.0, multipliers=MULTIPLIERS) -> Claim:
    return _claim(DoseResponseClaim, multipliers=multipliers, at_least=at_least)


def capability(max_loss=0.05, metric="probability", multipliers=(-1.0, 1.0)) -> Claim:
    return _claim(CapabilityClaim, multipliers=multipliers, max_loss=max_loss, metric=metric)


def answer_mass(at_least=0.9, multipliers=MULTIPLIERS) -> Claim:
    return _claim(AnswerMassClaim, multipliers=multipliers, at_least=at_least)


def letter_part(at_most=0.25, multiplier=1.0) -> Claim:
    return _claim(LetterPartClaim, multiplier=multiplier, at_most=at_most)


def null(multiplier=1.0, draws=39) -> Claim:
    return _claim(NullClaim, multiplier=multiplier, draws=draws)


def specificity(max_share=0.5, multiplier=1.0, against=()) -> Claim:
    return _claim(SpecificityClaim, multiplier=multiplier, max_share=max_share, against=against)
