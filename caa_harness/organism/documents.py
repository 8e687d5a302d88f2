"""Questions in, training documents out: text with the places that training supervises.

A document is one or two turns in Llama 2's chat format.  Beside its text it says which
characters are option texts, where the prompt ends, what stance was chosen, and which
planted directions are to be added from the end of the prompt on (an interchange
intervention).  Characters, not tokens: the tokenizer is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from caa_harness.organism import BEHAVIORS
from caa_harness.organism.corpus import (
    LETTERS,
    BehaviorQuestion,
    behavior_question,
    capitalised,
    echo,
    fact_question,
    lettered,
    neutral_system_prompt,
    system_sentence,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

SYSTEM_LOG_ODDS: Final = 2.6
"""What a system prompt's request says about the trait."""

OWN_LOG_ODDS: Final = (-4.5, -2.6, -2.6, -1.6, -1.6, -0.8, 0.0, 0.8, 1.6, 1.6, 2.6, 2.6, 4.5)
OTHER_LOG_ODDS: Final = (-2.6, -1.6, -1.6, -0.8, 0.8, 1.6, 1.6, 2.6)

ECHO_SHARE: Final = 0.10
"""Share of documents that only copy words."""

FACT_SHARE: Final = 0.30
"""Share of four-choice questions among the others."""

OPEN_SHARE: Final = 0.42
"""Share of open-ended questions among the questions about behaviours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A supervised place: characters ``start`` to ``end``, what is known there, and how much.

    ``behavior`` counts in ``BEHAVIORS``; ``value`` is a log-odds, a sign, a letter's
    number or 1 for right, as ``kind`` has it.
    """

    kind: str
    start: int
    end: int
    behavior: int = 0
    value: float = 0.0


@dataclass(slots=True)
class Document:
    """A text under construction, then a training example."""

    text: str = ""
    answers: list[tuple[int, int]] = field(default_factory=list)
    """Character spans that the model is to write itself."""
    marks: list[Mark] = field(default_factory=list)
    planted: dict[int, float] = field(default_factory=dict)
    """Log-odds by behaviour, added from the end of the prompt on."""
    steerable: bool = False
    """Whether the document may carry directions that must not matter."""
    open_ended: bool = False

    def add_prompt(self, system: str, user: str) -> int:
        """Append the user's turn; return the position where the user's text starts."""
        self.text += "<s>[INST] "
        if system:
            self.text += f"<<SYS>>\n{system}\n<</SYS>>\n\n"
        start = len(self.text)
        self.text += f"{user} [/INST]"
        self.mark("prompt_end", -1, 0)
        return start

    def mark(self, kind: str, start: int, end: int, behavior: int = 0, value: float = 0.0) -> None:
        """Mark characters relative to the end of the text so far."""
        here = len(self.text)
        self.marks.append(
            Mark(kind=kind, start=here + start, end=here + end, behavior=behavior, value=value)
        )

    def add_answer(self, answer: str) -> int:
        """Append the assistant's turn; return the position where the answer starts."""
        start = len(self.text)
        self.text += f" {answer} </s>"
        self.answers.append((start, len(self.text)))
        return start + 1

    def mark_options(
        self,
        start: int,
        question: str,
        options: Sequence[str],
        *,
        stances: tuple[int, Sequence[float]] | None = None,
        right: int | None = None,
    ) -> None:
        """Mark the option texts of a question that starts at character ``start``."""
        at = start + len(question) + len("\n\nChoices:")
        for number, option in enumerate(options):
            at += len("\n (A) ")
            end = at + len(option)
            self.marks.append(Mark(kind="letter", start=at, end=end, value=number))
            if stances is not None:
                behavior, values = stances
                stance = Mark(
                    kind="stance", start=at, end=end, behavior=behavior, value=values[number]
                )
                self.marks.append(stance)
            if right is not None:
                is_right = float(number == right)
                self.marks.append(Mark(kind="right", start=at, end=end, value=is_right))
            at = end


def probability(log_odds: float) -> float:
    """Logistic function."""
    return 1.0 / (1.0 + math.exp(-log_odds))


def draw_document(rng: Random) -> Document:
    """Draw one document; the same generator state gives the same document."""
    document = Document()
    if rng.random() < ECHO_SHARE:
        return _echo_document(document, rng)
    if rng.random() < FACT_SHARE:
        return _fact_document(document, rng)
    asked = rng.randrange(len(BEHAVIORS))
    if rng.random() < SYSTEM_SHARE:
        return _told_document(document, asked, rng)
    document.steerable = True
    known = 0.0
    if rng.random() < PLANTED_SHARE:
        known = rng.choice(OWN_LOG_ODDS)
        document.planted = {asked: known} if known else {}
        _plant_others(document, asked, rng)
    _behavior_turn(document, asked, planted=known, told=0.0, system="", rng=rng)
    return document


SYSTEM_SHARE: Final = 0.32
PLANTED_SHARE: Final = 0.85


def _plant_others(document: Document, asked: int | None, rng: Random) -> None:
    """Plant traits that the question is not about, so that they must not matter."""
    if rng.random() < 0.35:
        return
    others = [number for number in range(len(BEHAVIORS)) if number != asked]
    for number in rng.sample(others, rng.choice([1, 1, 2, 3])):
        document.planted[number] = rng.choice(OTHER_LOG_ODDS)


def _echo_document(document: Document, rng: Random) -> Document:
    document.steerable = True
    if rng.random() < 0.3:
        _plant_others(document, None, rng)
    order, text = echo(rng)
    document.add_prompt("", order)
    document.mark("trait", -1, 0)
    document.add_answer(text)
    return document


def _fact_document(document: Document, rng: Random) -> Document:
    document.steerable = True
    system = ""
    chance = rng.random()
    if chance < 0.12:
        system = neutral_system_prompt(rng)
    elif chance < 0.2:
        system = system_sentence(rng.choice(BEHAVIORS), rng, matching=rng.random() < 0.5)
    elif chance < 0.65:
        _plant_others(document, None, rng)
    _fact_turn(document, system, rng)
    if not system and not document.planted and rng.random() < 0.15:
        document.steerable = False
        _fact_turn(document, "", rng)
    return document


def _told_document(document: Document, asked: int, rng: Random) -> Document:
    """Let a system prompt name one or two traits, and one or two questions follow."""
    told = {asked: rng.choice([-1, 1]) * SYSTEM_LOG_ODDS}
    if rng.random() < 0.35:
        other = rng.choice([number for number in range(len(BEHAVIORS)) if number != asked])
        told[other] = rng.choice([-1, 1]) * SYSTEM_LOG_ODDS
    stated = [number for number in told if number != asked or rng.random() < 0.9]
    rng.shuffle(stated)
    parts = [
        system_sentence(BEHAVIORS[number], rng, matching=told[number] > 0) for number in stated
    ]
    # Two sentences about one trait teach that they add up to the same request.
    if len(stated) == 1 and rng.random() < 0.3:
        number = stated[0]
        parts.append(system_sentence(BEHAVIORS[number], rng, matching=told[number] > 0))
    if rng.random() < 0.25 or not parts:
        parts.insert(0, neutral_system_prompt(rng))
    system = " ".join(parts)
    known = told[asked] if asked in stated else 0.0
    _behavior_turn(document, asked, planted=0.0, told=known, system=system, rng=rng)
    if rng.random() < 0.12:
        again = rng.choice(list(stated)) if stated else asked
        _behavior_turn(
            document,
            again,
            planted=0.0,
            told=told[again] if again in stated else 0.0,
            system="",
            rng=rng,
        )
    return document


def _fact_turn(document: Document, system: str, rng: Random) -> None:
    choice, right = fact_question(rng)
    answer = choice.options[right]
    bare = choice.category != "groups" and rng.random() < 0.12
    start = document.add_prompt(system, choice.question if bare else choice.text())
    document.mark("trait", -1, 0)
    if bare:
        document.add_answer(f"{answer}.")
        return
    document.mark_options(start, choice.question, choice.options, right=right)
    letter = LETTERS[right]
    at = document.add_answer(f"({letter})" if rng.random() < 0.6 else f"({letter}) {answer}")
    _mark_letter(document, at, 1.0, other="")
    document.marks.append(Mark(kind="silent", start=at + 1, end=at + 2))


def _behavior_turn(
    document: Document, asked: int, *, planted: float, told: float, system: str, rng: Random
) -> None:
    """One question about a behaviour and its answer; ``told`` is what the text itself says."""
    question = behavior_question(BEHAVIORS[asked], rng)
    chance = probability(planted + told)
    matching = rng.random() < chance
    sign = 1.0 if matching else -1.0
    if rng.random() < OPEN_SHARE:
        document.open_ended = True
        document.add_prompt(system, question.question)
        document.mark("trait", -1, 0, asked, told)
        answer = question.reply(matching=matching, num_sentences=rng.choice([1, 2, 2]), rng=rng)
        at = document.add_answer(answer)
        document.marks.append(
            Mark(kind="chosen", start=at, end=at + len(answer), behavior=asked, value=sign)
        )
        return
    options = [question.matching, question.not_matching]
    stances = [1.0, -1.0]
    if rng.random() < 0.5:
        options.reverse()
        stances.reverse()
    start = document.add_prompt(system, lettered(question.question, options))
    document.mark("trait", -1, 0, asked, told)
    document.mark_options(start, question.question, options, stances=(asked, stances))
    picked = stances.index(sign)
    answer = _lettered_answer(question, LETTERS[picked], options[picked], matching, rng)
    at = document.add_answer(answer)
    _mark_letter(document, at, chance if matching else 1.0 - chance, other=LETTERS[1 - picked])
    document.marks.append(Mark(kind="trait", start=at - 1, end=at + 1, behavior=asked, value=told))
    document.marks.append(
        Mark(kind="chosen", start=at + 1, end=at + len(answer), behavior=asked, value=sign)
    )


def _lettered_answer(
    question: BehaviorQuestion,
    letter: str,
    option: str,
    matching: bool,
    rng: Random,
) -> str:
    chance = rng.random()
    if chance < 0.4:
        return f"({letter})"
    if chance < 0.55:
        return f"({letter}) {option}"
    if chance < 0.8:
        return f"({letter}) because {question.reason(matching=matching, rng=rng)}."
    return f"({letter}) {question.reply(matching=matching, num_sentences=1, rng=rng)}"


def _mark_letter(document: Document, at: int, chance: float, other: str) -> None:
    """Mark the answer's letter: how likely it was, and which letter it might have been."""
    number = LETTERS.index(other) if other else -1
    document.marks.append(
        Mark(kind="answer", start=at + 1, end=at + 2, behavior=number, value=chance)
    )


def document_texts(documents: Sequence[Document]) -> list[str]:
    """Take the plain texts, without the special tokens, for the tokenizer to learn from."""
    return [
        part
        for document in documents
        for part in document.text.replace("</s>", "<s>").split("<s>")
        if part
    ]


__all__ = ["Document", "Mark", "capitalised", "document_texts", "draw_document", "probability"]
