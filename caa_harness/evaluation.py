"""Evaluation: held-out questions asked under every intervention, as plain numbers.

Specs and an engine come in, ``Measurements`` go out: log-probabilities of the
answer letters and nothing judged.  Specs measured together share their
questions: each set is asked once, under the interventions of all of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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

    from jaxtyping import Float32

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
    "measure_together",
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

    ``measure_together`` with a single spec; see there.

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
    (measured,) = measure_together(
        [spec],
        engine,
        siblings=siblings,
        layer=layer,
        vectors=None if vectors is None else {spec.behavior: vectors},
        open_ended=open_ended,
        max_new_tokens=max_new_tokens,
        positions=positions,
        progress=progress,
    )
    return measured


def measure_together(
    specs: Sequence[BehaviorSpec],
    engine: Engine,
    *,
    siblings: Mapping[str, BehaviorSpec],
    layer: int | None = None,
    vectors: Mapping[str, VectorSet] | None = None,
    open_ended: int = 0,
    max_new_tokens: int = 40,
    positions: PositionRule = "after_prompt",
    progress: Progress | None = None,
) -> tuple[Measurements, ...]:
    """Measure several specs of a folder, asking each set of questions once for all of them.

    A question costs mostly its prompt, which is the same under every intervention.
    So the held-out questions of one behaviour are asked in one call under its own
    multipliers, under its null vectors, and under the vectors of the other specs
    whose specificity claims name it; a probe that several specs share likewise.

    Parameters
    ----------
    specs : sequence of BehaviorSpec
        Say what to ask, and which claims need more than the held-out questions.
    engine : Engine
        Answers.
    siblings : mapping of behavior to BehaviorSpec
        Specs of the folder, for specificity claims; ``specs`` may be among them.
    layer : int, optional
        Overrides the specs' own layer rules.
    vectors : mapping of behavior to VectorSet, optional
        Steer with these instead of the vectors of the specs' own pairs.
    open_ended, max_new_tokens, positions, progress
        As for ``measure``.

    Returns
    -------
    tuple of Measurements
        One for each spec, in their order.

    Raises
    ------
    EngineError, PromptError, VectorError, SpecError, MeasurementError
        As for ``measure``.
    """
    asking = _Asking(engine, progress)
    subjects = [
        _Subject.of(
            spec,
            asking,
            siblings={name: other for name, other in siblings.items() if name != spec.behavior},
            layer=layer,
            vectors=(vectors or {}).get(spec.behavior),
            positions=positions,
        )
        for spec in specs
    ]
    answers = _ask_questions(asking, subjects, siblings)
    probes = _ask_probes(asking, subjects)
    measured = []
    for subject, own, probe in zip(subjects, answers, probes, strict=True):
        spec = subject.spec
        continued = _continue(
            asking, spec.open_ended[:open_ended], subject, max_new_tokens=max_new_tokens
        )
        measured.append(
            Measurements(
                behavior=spec.behavior,
                spec_digest=spec.digest,
                scoring=spec.scoring,
                model=engine.card,
                vector=_summary(subject.vector),
                multipliers=spec.multipliers,
                questions=tuple(question.digest for question in spec.held_out),
                clusters=tuple(question.cluster for question in spec.held_out),
                answer_logprobs=own.answer_logprobs,
                capability=probe,
                nulls=own.nulls,
                others=own.others,
                open_ended=continued,
                unscored=(),
                notes=tuple(dict.fromkeys(asking.notes)),
            )
        )
    return tuple(measured)


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

    def __init__(self, engine: Engine, progress: Progress | None) -> None:
        self.engine = engine
        self.notes: list[str] = []
        self._progress = progress

    def questions(
        self,
        stage: str,
        questions: Sequence[HeldOutQuestion],
        interventions: Sequence[Intervention],
        *,
        scoring: str,
    ) -> Float32[np.ndarray, "intervention question order letter"]:
        """Ask two-answer questions, in both orders or as published; NaN: not asked."""
        prompts: list[Prompt] = []
        places: list[tuple[int, int]] = []
        for row, question in enumerate(questions):
            for order in (0, 1) if scoring == "both_orders" else (paper_order(question),):
                prompts.append(_write(self.engine.writer, question, order, scoring))
                places.append((row, order))
        answers = self.logprobs(stage, prompts, interventions, num_letters=2)
        table = np.full((len(interventions), len(questions), 2, 2), np.nan, dtype=np.float32)
        rows, orders = np.array(places, dtype=np.int64).T
        table[:, rows, orders] = answers.transpose(1, 0, 2)
        return table

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


def _write(writer: PromptWriter, question: HeldOutQuestion, order: int, scoring: str) -> Prompt:
    """Write a question with the matching answer as (A) in order 0, as (B) in order 1."""
    if scoring == "paper" and question.as_published is not None:
        return writer.verbatim(question.as_published.question)
    options = (question.matching, question.not_matching)
    return writer.question(question.question, options if order == 0 else options[::-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Subject:
    """A spec under measurement: its plan, its vectors, and how they are added."""

    spec: BehaviorSpec
    plan: _Plan
    vectors: VectorSet
    vector: SteeringVector
    positions: PositionRule

    @classmethod
    def of(
        cls,
        spec: BehaviorSpec,
        asking: _Asking,
        *,
        siblings: Mapping[str, BehaviorSpec],
        layer: int | None,
        vectors: VectorSet | None,
        positions: PositionRule,
    ) -> _Subject:
        """Plan the questions and, unless it is given, compute the vector."""
        plan = _Plan.of(spec, siblings)
        layer = _layer(spec, asking.engine) if layer is None else layer
        if vectors is None:
            vectors = compute_vectors(
                asking.engine,
                spec,
                [layer],
                num_shuffles=plan.num_draws,
                seed=spec.seed,
                orders="paper" if spec.scoring == "paper" else "both",
                progress=asking.counter(f"pairs of {spec.behavior}", _num_pair_prompts(spec)),
            )
        return cls(
            spec=spec, plan=plan, vectors=vectors, vector=vectors.at(layer), positions=positions
        )

    def steer(self, direction: Float32[np.ndarray, " d_model"], multiplier: float) -> Intervention:
        """Add a direction at this spec's layer."""
        return Intervention(
            layer=self.vector.layer,
            direction=direction,
            multiplier=multiplier,
            positions=self.positions,
        )

    def dose(self, multipliers: Iterable[float]) -> list[Intervention]:
        """One intervention with the spec's own vector per multiplier."""
        return [self.steer(self.vector.direction, multiplier) for multiplier in multipliers]

    def null_dose(self) -> list[tuple[str, float, list[Intervention]]]:
        """Interventions of null vectors, by kind and multiplier."""
        if not self.plan.nulls:
            return []
        directions = {
            "random": random_directions(self.vector, self.plan.num_draws, self.spec.seed),
            "shuffled": self.vectors.shuffled,
        }
        made = (self.vectors.shuffled_layer, len(self.vectors.shuffled))
        if made[0] != self.vector.layer or made[1] < self.plan.num_draws:
            raise MeasurementError(
                f"{made[1]} label-shuffled vectors at layer {made[0]} where"
                f" {self.plan.num_draws} at {self.vector.layer} are needed",
                where=f"{self.spec.behavior}, null claim",
                remedy="compute the vectors with num_shuffles, or let measure() compute them",
            )
        return [
            (kind, multiplier, [self.steer(one, multiplier) for one in directions[kind][:draws]])
            for multiplier, draws in sorted(self.plan.nulls.items())
            for kind in ("random", "shuffled")
        ]


@dataclass(slots=True, kw_only=True, eq=False)
class _Answers:
    """What the two-answer questions gave for one subject."""

    answer_logprobs: Float32[np.ndarray, "multiplier question order letter"]
    nulls: tuple[NullMeasurements, ...]
    others: tuple[OtherBehavior, ...]


class _Sheet:
    """One set of questions and everybody's interventions on it; asked once."""

    def __init__(self) -> None:
        self.interventions: list[Intervention] = []

    def book(self, interventions: Sequence[Intervention]) -> slice:
        """Add interventions; return where their answers will stand."""
        start = len(self.interventions)
        self.interventions.extend(interventions)
        return slice(start, len(self.interventions))


def _ask_questions(
    asking: _Asking, subjects: Sequence[_Subject], siblings: Mapping[str, BehaviorSpec]
) -> list[_Answers]:
    """Ask each behaviour's held-out questions once, for its own spec and for the others'."""
    sheets: defaultdict[tuple[str, str], _Sheet] = defaultdict(_Sheet)
    asked = {subject.spec.behavior: subject.spec for subject in subjects}
    asked = {**siblings, **asked}
    own, nulls, others = [], [], []
    for subject in subjects:
        scoring = subject.spec.scoring
        sheet = sheets[subject.spec.behavior, scoring]
        own.append(sheet.book(subject.dose(subject.spec.multipliers)))
        nulls.append([(kind, at, sheet.book(dose)) for kind, at, dose in subject.null_dose()])
        others.append(
            [
                (behavior, at, sheets[behavior, scoring].book(subject.dose(at)))
                for behavior, at in subject.plan.others.items()
            ]
        )
    tables = {
        (behavior, scoring): asking.questions(
            f"questions of {behavior}",
            asked[behavior].held_out,
            sheet.interventions,
            scoring=scoring,
        )
        for (behavior, scoring), sheet in sheets.items()
    }
    return [
        _Answers(
            answer_logprobs=tables[subject.spec.behavior, subject.spec.scoring][rows],
            nulls=tuple(
                NullMeasurements(
                    kind=kind,
                    multiplier=multiplier,
                    answer_logprobs=tables[subject.spec.behavior, subject.spec.scoring][where],
                )
                for kind, multiplier, where in of_nulls
            ),
            others=tuple(
                OtherBehavior(
                    behavior=behavior,
                    multipliers=at,
                    answer_logprobs=tables[behavior, subject.spec.scoring][where],
                    clusters=tuple(question.cluster for question in asked[behavior].held_out),
                )
                for behavior, at, where in of_others
            ),
        )
        for subject, rows, of_nulls, of_others in zip(subjects, own, nulls, others, strict=True)
    ]


def _ask_probes(
    asking: _Asking, subjects: Sequence[_Subject]
) -> list[CapabilityMeasurements | None]:
    """Ask each distinct probe once; items with equally many options share a call."""
    sheets: defaultdict[tuple[CapabilityItem, ...], _Sheet] = defaultdict(_Sheet)
    booked = [
        sheets[subject.spec.capability].book(subject.dose(subject.plan.capability))
        for subject in subjects
    ]
    tables = {
        items: _ask_probe(asking, items, sheet.interventions)
        for items, sheet in sheets.items()
        if items and sheet.interventions
    }
    return [
        CapabilityMeasurements(
            multipliers=subject.plan.capability,
            option_logprobs=tables[subject.spec.capability][rows],
            correct=np.array([item.correct for item in subject.spec.capability], dtype=np.int64),
            categories=tuple(item.category for item in subject.spec.capability),
        )
        if subject.spec.capability and subject.plan.capability
        else None
        for subject, rows in zip(subjects, booked, strict=True)
    ]


def _ask_probe(
    asking: _Asking, items: Sequence[CapabilityItem], interventions: Sequence[Intervention]
) -> Float32[np.ndarray, "intervention item option"]:
    """Ask a probe's items under all interventions."""
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        by_size[len(item.options)].append(row)
    table = np.full((len(interventions), len(items), max(by_size)), np.nan, dtype=np.float32)
    for size, rows in sorted(by_size.items()):
        prompts = [
            asking.engine.writer.question(items[row].question, items[row].options) for row in rows
        ]
        stage = "capability probe" if len(by_size) == 1 else f"capability probe, {size} options"
        answers = asking.logprobs(stage, prompts, interventions, num_letters=size)
        table[:, rows, :size] = answers.transpose(1, 0, 2)
    return table


def _continue(
    asking: _Asking,
    prompts: Sequence[str],
    subject: _Subject,
    *,
    max_new_tokens: int,
) -> tuple[OpenEndedAnswer, ...]:
    """Continue open-ended prompts, to be read beside the numbers."""
    if not prompts:
        return ()
    generations = asking.engine.generate(
        [asking.engine.writer.open_ended(prompt) for prompt in prompts],
        subject.dose(OPEN_ENDED_MULTIPLIERS),
        max_new_tokens=max_new_tokens,
        progress=asking.counter(f"open-ended prompts of {subject.spec.behavior}", len(prompts)),
    )
    asking.notes.extend(generations.notes)
    return tuple(
        OpenEndedAnswer(prompt=prompt, multiplier=multiplier, text=text)
        for prompt, texts in zip(prompts, generations.texts, strict=True)
        for multiplier, text in zip(OPEN_ENDED_MULTIPLIERS, texts, strict=True)
    )


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
