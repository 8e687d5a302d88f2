"""Evaluation: held-out questions asked under every intervention, as plain numbers.

A spec and an engine come in, ``Measurements`` go out: log-probabilities of the
answer letters and nothing judged.  They can be written to a file, read back and
judged again without a model.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32

from caa_harness.engines import Intervention, PositionRule
from caa_harness.errors import MeasurementError, SpecError
from caa_harness.measurements import (
    CapabilityMeasurements,
    Measurements,
    NullMeasurements,
    OpenEndedAnswer,
    OtherBehavior,
    VectorSummary,
    read_measurements,
    write_measurements,
)
from caa_harness.spec import CapabilityClaim, NullClaim, SpecificityClaim
from caa_harness.vectors import compute_vectors, paper_order, random_directions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from caa_harness.engines import AnswerLogprobs, Engine
    from caa_harness.prompts import Prompt, PromptWriter
    from caa_harness.spec import BehaviorSpec, CapabilityItem, HeldOutQuestion
    from caa_harness.vectors import SteeringVector, VectorSet

    Progress = Callable[[str, int, int], None]

__all__ = [
    "CapabilityMeasurements",
    "Measurements",
    "NullMeasurements",
    "OpenEndedAnswer",
    "OtherBehavior",
    "VectorSummary",
    "measure",
    "read_measurements",
    "write_measurements",
]

OPEN_ENDED_MULTIPLIERS = (-1.0, 0.0, 1.0)
"""What open-ended prompts are continued under: enough to read, not to judge."""


def measure(
    spec: BehaviorSpec,
    engine: Engine,
    *,
    siblings: Mapping[str, BehaviorSpec],
    layer: int | None = None,
    vectors: VectorSet | None = None,
    open_ended: int = 0,
    max_new_tokens: int = 40,
    positions: PositionRule = "after_prompt",
    progress: Progress | None = None,
) -> Measurements:
    """Compute the spec's vector and ask its questions under every intervention.

    Each set of questions is one call to the engine, which holds all its
    interventions: the held-out questions under the spec's multipliers, and under
    null vectors where a claim asks for them; other behaviours' questions where a
    claim names them; the capability probe where a claim bounds it.

    Parameters
    ----------
    spec : BehaviorSpec
        Says what to ask, and which claims need more than the held-out questions.
    engine : Engine
        Answers.
    siblings : mapping of behavior to BehaviorSpec
        Other specs of the folder, for specificity claims.
    layer : int, optional
        Overrides the spec's own layer rule.
    vectors : VectorSet, optional
        Steer with these instead of the vector of the spec's own pairs, such as
        vectors normalised across behaviours.  They must hold the layer.
    open_ended : int
        How many of the spec's open-ended prompts to continue under -1, 0 and +1.
    max_new_tokens : int
        Length of those continuations.
    positions : {"after_prompt", "from_prompt_end"}
        Which tokens the interventions reach.
    progress : callable, optional
        Told the stage, how many prompts of it are done, and out of how many.

    Raises
    ------
    EngineError, PromptError, VectorError
        Whatever keeps the engine from answering.
    SpecError
        When a specificity claim names a behaviour that ``siblings`` lack.
    MeasurementError
        When the engine's answer has another shape than the question.
    """
    plan = _Plan.of(spec, siblings)
    layer = _layer(spec, engine) if layer is None else layer
    if vectors is None:
        vectors = compute_vectors(
            engine,
            spec,
            [layer],
            num_shuffles=plan.num_draws,
            seed=spec.seed,
            orders="paper" if spec.scoring == "paper" else "both",
            progress=_counter(progress, "pairs", _num_pair_prompts(spec)),
        )
    vector = vectors.at(layer)
    asking = _Asking(engine, spec.scoring, progress)
    steer = partial(Intervention, layer=layer, positions=positions)

    answers, nulls = _ask_held_out(
        asking, spec, vectors=vectors, vector=vector, plan=plan, steer=steer
    )
    others = tuple(
        _ask_other(asking, siblings[behavior], vector, multipliers, steer)
        for behavior, multipliers in plan.others.items()
    )
    capability = _ask_capability(asking, spec.capability, vector, plan.capability, steer)
    continued = _continue(
        asking, spec.open_ended[:open_ended], vector, steer, max_new_tokens=max_new_tokens
    )
    return Measurements(
        behavior=spec.behavior,
        spec_digest=spec.digest,
        scoring=spec.scoring,
        model=engine.card,
        vector=_summary(vector),
        multipliers=spec.multipliers,
        questions=tuple(question.digest for question in spec.held_out),
        clusters=tuple(question.cluster for question in spec.held_out),
        answer_logprobs=answers,
        capability=capability,
        nulls=nulls,
        others=others,
        open_ended=continued,
        unscored=(),
        notes=tuple(dict.fromkeys(asking.notes)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the spec's claims need besides the held-out questions."""

    nulls: Mapping[float, int]
    """Draws of each kind, by multiplier."""
    others: Mapping[str, tuple[float, ...]]
    """Multipliers to ask another behaviour's questions under, ascending, 0 among them."""
    capability: tuple[float, ...]
    """Multipliers to ask the probe under; empty: no claim bounds it."""

    @property
    def num_draws(self) -> int:
        """How many null vectors of each kind serve all claims."""
        return max(self.nulls.values(), default=0)

    @classmethod
    def of(cls, spec: BehaviorSpec, siblings: Mapping[str, BehaviorSpec]) -> _Plan:
        """Collect what the claims ask for; each thing is measured once for all of them."""
        nulls: dict[float, int] = {}
        others: defaultdict[str, set[float]] = defaultdict(set)
        capability: set[float] = set()
        for claim in spec.claims:
            match claim:
                case NullClaim():
                    nulls[claim.multiplier] = max(claim.draws, nulls.get(claim.multiplier, 0))
                case SpecificityClaim():
                    for behavior in claim.against or tuple(siblings):
                        _check_sibling(claim, behavior, siblings)
                        others[behavior] |= {0.0, claim.multiplier}
                case CapabilityClaim():
                    capability |= {0.0, *claim.multipliers}
        return cls(
            nulls=nulls,
            others={behavior: tuple(sorted(of)) for behavior, of in others.items()},
            capability=tuple(sorted(capability)),
        )


def _check_sibling(
    claim: SpecificityClaim, behavior: str, siblings: Mapping[str, BehaviorSpec]
) -> None:
    """Fail before measuring for minutes, not after."""
    if behavior not in siblings:
        raise SpecError(
            f"no other spec of the folder is about {behavior!r}",
            where=str(claim.position),
            remedy=f"name one of {', '.join(sorted(siblings)) or '(there is no other spec)'},"
            " or leave out 'against'",
        )


class _Asking:
    """An engine asked in the spec's orders; collects its notes and reports progress."""

    def __init__(self, engine: Engine, scoring: str, progress: Progress | None) -> None:
        self.engine = engine
        self.scoring = scoring
        self.notes: list[str] = []
        self._progress = progress

    def questions(
        self,
        stage: str,
        questions: Sequence[HeldOutQuestion],
        interventions: Sequence[Intervention],
    ) -> Float32[np.ndarray, "intervention question order letter"]:
        """Ask two-answer questions, in both orders or as published; NaN: not asked."""
        prompts: list[Prompt] = []
        places: list[tuple[int, int]] = []
        for row, question in enumerate(questions):
            for order in (0, 1) if self.scoring == "both_orders" else (paper_order(question),):
                prompts.append(self._write(self.engine.writer, question, order))
                places.append((row, order))
        answers = self.logprobs(stage, prompts, interventions, num_letters=2)
        table = np.full((len(interventions), len(questions), 2, 2), np.nan, dtype=np.float32)
        rows, orders = np.array(places, dtype=np.int64).T
        table[:, rows, orders] = answers.transpose(1, 0, 2)
        return table

    def _write(self, writer: PromptWriter, question: HeldOutQuestion, order: int) -> Prompt:
        """Write a question with the matching answer as (A) in order 0, as (B) in order 1."""
        if self.scoring == "paper" and question.as_published is not None:
            return writer.verbatim(question.as_published.question)
        options = (question.matching, question.not_matching)
        return writer.question(question.question, options if order == 0 else options[::-1])

    def logprobs(
        self,
        stage: str,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention],
        *,
        num_letters: int,
    ) -> Float32[np.ndarray, "prompt intervention letter"]:
        """Ask one set of prompts under all interventions in one call."""
        answered: AnswerLogprobs = self.engine.answer_logprobs(
            prompts, interventions, progress=self.counter(stage, len(prompts))
        )
        wanted = (len(prompts), len(interventions), num_letters)
        if answered.logprobs.shape != wanted:
            raise MeasurementError(
                f"the engine answered with shape {answered.logprobs.shape}, not {wanted}",
                where=f"{self.engine.card.name}, {stage}",
                remedy="check the engine: (prompt, intervention, letter) is what the door says",
            )
        self.notes.extend(answered.notes)
        return answered.logprobs

    def counter(self, stage: str, total: int) -> Callable[[int], None] | None:
        """Make the engine's progress call for one stage."""
        return _counter(self._progress, stage, total)


def _counter(progress: Progress | None, stage: str, total: int) -> Callable[[int], None] | None:
    """Turn an engine's "so many more prompts are done" into stage, done, total."""
    if progress is None:
        return None
    done = 0
    progress(stage, 0, total)

    def advance(num: int) -> None:
        nonlocal done
        done = min(done + num, total)
        progress(stage, done, total)

    return advance


def _ask_held_out(
    asking: _Asking,
    spec: BehaviorSpec,
    *,
    vectors: VectorSet,
    vector: SteeringVector,
    plan: _Plan,
    steer: Callable[..., Intervention],
) -> tuple[Float32[np.ndarray, "multiplier question order letter"], tuple[NullMeasurements, ...]]:
    """Ask the held-out questions under the vector and, in the same call, under null vectors."""
    interventions = _dose(steer, vector, spec.multipliers)
    blocks: list[tuple[Literal["random", "shuffled"], float, slice]] = []
    if plan.nulls:
        directions = {
            "random": random_directions(vector, plan.num_draws, spec.seed),
            "shuffled": vectors.shuffled,
        }
        if vectors.shuffled_layer != vector.layer or len(vectors.shuffled) < plan.num_draws:
            raise MeasurementError(
                f"{len(vectors.shuffled)} label-shuffled vectors at layer"
                f" {vectors.shuffled_layer} where {plan.num_draws} at {vector.layer} are needed",
                where=f"{spec.behavior}, null claim",
                remedy="compute the vectors with num_shuffles, or let measure() compute them",
            )
        for multiplier, draws in sorted(plan.nulls.items()):
            for kind in ("random", "shuffled"):
                start = len(interventions)
                interventions += [
                    steer(direction=direction, multiplier=multiplier)
                    for direction in directions[kind][:draws]
                ]
                blocks.append((kind, multiplier, slice(start, start + draws)))
    answers = asking.questions("held-out questions", spec.held_out, interventions)
    nulls = tuple(
        NullMeasurements(kind=kind, multiplier=multiplier, answer_logprobs=answers[rows])
        for kind, multiplier, rows in blocks
    )
    return answers[: len(spec.multipliers)], nulls


def _ask_other(
    asking: _Asking,
    other: BehaviorSpec,
    vector: SteeringVector,
    multipliers: Sequence[float],
    steer: Callable[..., Intervention],
) -> OtherBehavior:
    """Ask another behaviour's questions under this behaviour's vector."""
    stage = f"questions of {other.behavior}"
    return OtherBehavior(
        behavior=other.behavior,
        multipliers=tuple(multipliers),
        answer_logprobs=asking.questions(stage, other.held_out, _dose(steer, vector, multipliers)),
        clusters=tuple(question.cluster for question in other.held_out),
    )


def _ask_capability(
    asking: _Asking,
    items: Sequence[CapabilityItem],
    vector: SteeringVector,
    multipliers: Sequence[float],
    steer: Callable[..., Intervention],
) -> CapabilityMeasurements | None:
    """Ask the probe; items with equally many options share a call."""
    if not multipliers or not items:
        return None
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        by_size[len(item.options)].append(row)
    interventions = _dose(steer, vector, multipliers)
    table = np.full((len(multipliers), len(items), max(by_size)), np.nan, dtype=np.float32)
    for size, rows in sorted(by_size.items()):
        prompts = [
            asking.engine.writer.question(items[row].question, items[row].options) for row in rows
        ]
        stage = "capability probe" if len(by_size) == 1 else f"capability probe, {size} options"
        answers = asking.logprobs(stage, prompts, interventions, num_letters=size)
        table[:, rows, :size] = answers.transpose(1, 0, 2)
    return CapabilityMeasurements(
        multipliers=tuple(multipliers),
        option_logprobs=table,
        correct=np.array([item.correct for item in items], dtype=np.int64),
        categories=tuple(item.category for item in items),
    )


def _continue(
    asking: _Asking,
    prompts: Sequence[str],
    vector: SteeringVector,
    steer: Callable[..., Intervention],
    *,
    max_new_tokens: int,
) -> tuple[OpenEndedAnswer, ...]:
    """Continue open-ended prompts, to be read beside the numbers."""
    if not prompts:
        return ()
    generations = asking.engine.generate(
        [asking.engine.writer.open_ended(prompt) for prompt in prompts],
        _dose(steer, vector, OPEN_ENDED_MULTIPLIERS),
        max_new_tokens=max_new_tokens,
        progress=asking.counter("open-ended prompts", len(prompts)),
    )
    asking.notes.extend(generations.notes)
    return tuple(
        OpenEndedAnswer(prompt=prompt, multiplier=multiplier, text=text)
        for prompt, texts in zip(prompts, generations.texts, strict=True)
        for multiplier, text in zip(OPEN_ENDED_MULTIPLIERS, texts, strict=True)
    )


def _dose(
    steer: Callable[..., Intervention], vector: SteeringVector, multipliers: Iterable[float]
) -> list[Intervention]:
    """One intervention per multiplier."""
    return [steer(direction=vector.direction, multiplier=multiplier) for multiplier in multipliers]


def _layer(spec: BehaviorSpec, engine: Engine) -> int:
    """Resolve the spec's layer rule for this model."""
    return spec.layer.resolve(num_layers=engine.card.num_layers, model=engine.card.name)


def _num_pair_prompts(spec: BehaviorSpec) -> int:
    """How many prompts the vector takes."""
    return len(spec.pairs) * (1 if spec.scoring == "paper" else 2)


def _summary(vector: SteeringVector) -> VectorSummary:
    """Say of the vector what a report needs."""
    return VectorSummary(
        layer=vector.layer,
        norm=vector.norm,
        num_pairs=vector.num_pairs,
        mean_residual_norm=vector.mean_residual_norm,
        digest=vector.digest,
        normalisation=vector.normalisation,
    )
