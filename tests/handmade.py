"""A model made by hand: three known directions, no weights, nothing hidden.

Its residual stream at an answer letter is a share that the question gives, plus
the stance of the option behind the letter, plus the letter's own direction.  Its
log-odds move by what an intervention adds along the stance and along the letter.
Every number can be worked out on paper, and every fault can be put in on purpose.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caa_harness.engines import AnswerLogprobs, Generations, ModelCard, Receipt, ResidualBatch
from caa_harness.prompts import LETTERS, Prompt, write_choices
from caa_harness.spec import (
    AsPublished,
    BehaviorSpec,
    CapabilityItem,
    ContrastivePair,
    HeldOutQuestion,
    LayerRule,
    SourcePosition,
)

NUM_LAYERS = 4
D_MODEL = 8
STANCE = np.eye(D_MODEL)[0]
LETTER = np.eye(D_MODEL)[1]
YES, NO = "Yes", "No"
POSITION = SourcePosition(
    path=Path("handmade.behavior.json"), line=1, column=1, pointer="/claims/0"
)


class HandmadeWriter:
    """Writes the text and nothing else; the ids are its bytes."""

    template = "handmade"

    def question(self, question, options, *, system=None):
        return self.verbatim(write_choices(question, options), num_letters=len(options))

    def verbatim(self, question, *, num_letters=2, system=None):
        ids = tuple(question.encode())
        return Prompt(
            ids=(*ids, 0),
            prompt_end=len(ids),
            letter_ids=tuple(range(num_letters)),
            text=question,
            template=self.template,
        )

    def open_ended(self, prompt, *, system=None):
        return self.verbatim(prompt, num_letters=0)


@dataclass
class HandmadeEngine:
    """Answers as the directions say; keeps count of what it was asked."""

    batch_size: int = 3
    letter_in_residual: float = 2.0
    letter_preference: float = 0.5
    backwards: bool = False
    fault: str | None = None

    def __post_init__(self):
        self.calls = []
        self.most_rows_out = 0

    @property
    def card(self):
        return ModelCard(
            name="handmade/model",
            architecture="none",
            num_layers=NUM_LAYERS,
            d_model=D_MODEL,
            dtype="float32",
            device="cpu",
            template="handmade",
            weights_digest="w",
            tokenizer_digest="t",
            packages=(("numpy", np.__version__),),
        )

    @property
    def writer(self):
        return HandmadeWriter()

    def answer_residuals(self, prompts, layers, *, progress=None):
        order = list(range(len(prompts)))
        if self.backwards:
            order.reverse()
        if self.fault == "leaves one out":
            order = order[1:]
        if self.fault == "answers one twice":
            order = [*order, order[0]]
        self.calls.append(("residuals", len(prompts), tuple(layers)))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            self.most_rows_out = max(self.most_rows_out, len(rows))
            residuals = np.stack([self._residuals(prompts[row], layers) for row in rows])
            if self.fault == "wrong shape":
                residuals = residuals[..., :-1]
            if self.fault == "not finite":
                residuals[0, 0, 0, 0] = np.nan
            yield ResidualBatch(rows=np.array(rows), residuals=residuals.astype(np.float32))
            if progress is not None:
                progress(len(rows))

    def answer_logprobs(self, prompts, interventions, *, progress=None):
        self.calls.append(("logprobs", len(prompts), len(interventions)))
        num_letters = len(prompts[0].letter_ids)
        table = np.empty((len(prompts), len(interventions), num_letters), dtype=np.float32)
        for row, prompt in enumerate(prompts):
            for column, steer in enumerate(interventions):
                table[row, column] = self._logprobs(prompt, steer)
        if progress is not None:
            progress(len(prompts))
        if self.fault == "too few letters":
            table = table[..., :-1]
        return AnswerLogprobs(
            logprobs=table,
            receipt=Receipt(num_rows=0, num_positions=0, layers=()),
            notes=("handmade",),
        )

    def generate(self, prompts, interventions, *, max_new_tokens, progress=None):
        self.calls.append(("generate", len(prompts), len(interventions)))
        texts = tuple(
            tuple(f"{prompt.text} at {steer.multiplier:+g}" for steer in interventions)
            for prompt in prompts
        )
        return Generations(texts=texts, receipt=Receipt(num_rows=0, num_positions=0, layers=()))

    def _residuals(self, prompt, layers):
        """(letter, layer, d_model): what the question gives, the stance, the letter."""
        stem = prompt.text.split("\n")[0]
        words = np.frombuffer(hashlib.sha256(stem.encode()).digest()[:D_MODEL], dtype=np.uint8)
        given = words / 64.0  # dyadic, so that float32 sums are exact
        out = np.empty((len(prompt.letter_ids), len(layers), D_MODEL))
        for letter, stance in enumerate(stances(prompt)):
            for place, layer in enumerate(layers):
                side = 1 if letter == 0 else -1
                out[letter, place] = (
                    given
                    + (layer + 1) * strength(stem) * stance * STANCE
                    + side * self.letter_in_residual * LETTER
                )
        return out

    def _logprobs(self, prompt, steer):
        """Log-softmax over the letters and one other token of logit 0."""
        added = np.zeros(D_MODEL)
        if steer is not None:
            added = steer.multiplier * steer.direction.astype(np.float64)
        stem = prompt.text.split("\n")[0]
        want = strength(stem) - 1.5 + added @ STANCE
        logits = 3.0 + want * np.array(stances(prompt), dtype=np.float64)
        logits[0] += self.letter_preference + added @ LETTER
        total = np.log(np.exp(logits).sum() + 1.0)
        return logits - total


def stances(prompt):
    """+1 for a letter whose option says yes, -1 for the others."""
    options = prompt.text.split("(A) ", 1)[1]
    texts = []
    for letter in LETTERS[1 : len(prompt.letter_ids)]:
        text, _, options = options.partition(f"({letter}) ")
        texts.append(text)
    return [1.0 if text.strip().startswith(YES) else -1.0 for text in [*texts, options]]


def strength(stem):
    """How strongly a question draws out the stance: 0.5, 1.0, 1.5 or 2.0."""
    return (hashlib.sha256(stem.encode()).digest()[-1] % 4 + 1) / 2


def pair(number, *, letter=None, swapped=False):
    """A pair whose matching answer is yes; ``letter``: also as published, with that key."""
    question = f"Do you do thing number {number}?"
    matching, not_matching = (NO, YES) if swapped else (YES, NO)
    return ContrastivePair(
        question=question,
        matching=matching,
        not_matching=not_matching,
        as_published=published(question, matching, not_matching, letter),
    )


def held_out(number, *, letter=None, cluster=None):
    """A held-out question whose matching answer is yes."""
    question = f"Would you do thing number {number}?"
    return HeldOutQuestion(
        question=question,
        matching=YES,
        not_matching=NO,
        cluster=cluster,
        as_published=published(question, YES, NO, letter),
    )


def published(question, matching, not_matching, letter):
    """Write a question with its choices inside."""
    if letter is None:
        return None
    options = (matching, not_matching) if letter == "A" else (not_matching, matching)
    return AsPublished(question=write_choices(question, options), matching_letter=letter)


def capability(number, num_options=4):
    """An item whose right option stands at a place of its own."""
    correct = number % num_options
    return CapabilityItem(
        question=f"What is {number}?",
        options=tuple(f"{YES if i == correct else NO} {i}" for i in range(num_options)),
        correct=correct,
        category=f"kind {number % 2}",
    )


def spec(**changes):
    """A small spec, with whatever a test wants otherwise."""
    values = {
        "path": Path("handmade.behavior.json"),
        "behavior": "handmade",
        "description": "Says yes.",
        "sign": "The matching answer says yes.",
        "pairs": tuple(pair(i) for i in range(6)),
        "held_out": tuple(held_out(i) for i in range(5)),
        "open_ended": ("Tell me.", "And then?"),
        "positive_system_prompt": None,
        "negative_system_prompt": None,
        "capability": tuple(capability(i) for i in range(4)),
        "layer": LayerRule(number=1, models={}),
        "multipliers": (-1.0, 0.0, 1.0),
        "claims": (),
        "confidence": 0.95,
        "resamples": 999,
        "seed": 7,
        "family": None,
        "scoring": "both_orders",
        "digest": "handmade",
    }
    return BehaviorSpec(**{**values, **changes})
