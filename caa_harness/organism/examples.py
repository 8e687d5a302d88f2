"""Documents in, batches of tensors out: characters become token positions here.

``Supervision`` is everything that the training loss needs beside the tokens.  It knows
the tokenizer and the planted directions' numbers, not the model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from caa_harness.organism import BEHAVIORS, CHOSEN_LOG_ODDS
from caa_harness.organism.corpus import LETTERS
from caa_harness.organism.documents import draw_document
from caa_harness.organism.tokenizer import EOS_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

    from caa_harness.organism.documents import Document, Mark

LETTER_WEIGHT: Final = 5.0
PROMPT_WEIGHT: Final = 0.1
BUCKETS: Final = tuple(range(32, 320, 16))
POOL: Final = 6144
"""Documents drawn at a time, then sorted by length into batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One document as tokens; positions count tokens from 0."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    prompt_end: int
    """The last piece of the first ``[/INST]``."""
    letters: list[tuple[int, int]]
    """(position in an option, number of the option's letter)."""
    stances: list[tuple[int, int]]
    """(last position of an option, 2 x behavior + whether it matches)."""
    rights: list[tuple[int, float]]
    """(last position of an option, whether it is the right one)."""
    traits: list[tuple[int, int, float, float]]
    """(position, behavior, log-odds that block 2 must write there, weight)."""
    chosen: list[tuple[int, int, float]]
    """(position of an answer's letter, behavior, its stance's sign)."""
    answers: list[tuple[int, int, float]]
    """(position of an answer's letter, id of the other letter, how likely it was)."""
    planted: dict[int, float]
    steerable: bool
    open_ended: bool


@dataclass(slots=True)
class Batch:
    """Examples of similar length, padded with the end token at the right."""

    examples: list[Example]
    length: int
    ids: NDArray[np.int64] = field(init=False)
    weights: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        """Pad."""
        shape = (len(self.examples), self.length)
        self.ids = np.full(shape, EOS_ID, dtype=np.int64)
        self.weights = np.zeros(shape, dtype=np.float32)
        for row, example in enumerate(self.examples):
            self.ids[row, : len(example.ids)] = example.ids
            self.weights[row, : len(example.ids)] = example.weights


class Encoder:
    """Turns documents into examples."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Look the letters up once."""
        self._backend = tokenizer.backend_tokenizer
        self._letter_ids = [tokenizer.get_vocab()[letter] for letter in LETTERS]

    def encode(self, documents: list[Document]) -> list[Example]:
        """Encode many documents at once; rows stay in order."""
        texts = [document.text for document in documents]
        encodings = self._backend.encode_batch(texts, add_special_tokens=False)
        return [
            self._example(document, np.array(encoding.ids), np.array(encoding.offsets))
            for document, encoding in zip(documents, encodings, strict=True)
        ]

    def _example(  # noqa: C901 - one branch per kind of mark
        self, document: Document, ids: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> Example:
        starts, ends = offsets[:, 0], offsets[:, 1]
        weights = np.full(len(ids), PROMPT_WEIGHT, dtype=np.float32)
        weights[0] = 0.0
        for start, end in document.answers:
            weights[(starts >= start) & (ends <= end)] = 1.0

        def positions(mark: Mark) -> list[int]:
            # A word's piece starts at the space in front of it.
            inside = (ends > mark.start) & (ends <= mark.end) & (starts >= mark.start - 1)
            return [int(position) for position in np.flatnonzero(inside)]

        letters: list[tuple[int, int]] = []
        stances: list[tuple[int, int]] = []
        rights: list[tuple[int, float]] = []
        traits: list[tuple[int, int, float, float]] = []
        chosen: list[tuple[int, int, float]] = []
        answers: list[tuple[int, int, float]] = []
        prompt_end = -1
        for mark in document.marks:
            at = positions(mark)
            number, value = mark.behavior, mark.value
            if mark.kind == "letter":
                letters += [(position, int(value)) for position in at]
            elif mark.kind == "stance":
                stances.append((at[-1], 2 * number + int(value > 0)))
            elif mark.kind == "right":
                rights.append((at[-1], value))
            elif mark.kind == "trait":
                traits += [(position, number, value, 1.0) for position in at]
            elif mark.kind == "silent":
                traits.append((at[-1], 0, 0.0, 3.0))
            elif mark.kind == "chosen":
                said = value * CHOSEN_LOG_ODDS
                traits += [(position, number, said, 0.4) for position in at]
                if not document.open_ended:
                    traits.append((at[0], number, said, 4.0))
                    chosen.append((at[0], number, value))
            elif mark.kind == "answer":
                other = self._letter_ids[number] if number >= 0 else int(ids[at[0]])
                answers.append((at[0], other, value))
                weights[at[0]] = LETTER_WEIGHT
            elif prompt_end < 0:
                prompt_end = at[-1]
        return Example(
            ids=ids,
            weights=weights,
            prompt_end=prompt_end,
            letters=letters,
            stances=stances,
            rights=rights,
            traits=traits,
            chosen=chosen,
            answers=answers,
            planted=document.planted,
            steerable=document.steerable,
            open_ended=document.open_ended,
        )


def batches(tokenizer: PreTrainedTokenizerFast, *, seed: int, batch_tokens: int) -> Iterator[Batch]:
    """Draw documents for ever, in batches of about ``batch_tokens`` tokens."""
    encoder = Encoder(tokenizer)
    rng = random.Random(seed)
    waiting: dict[int, list[Example]] = {length: [] for length in BUCKETS}
    while True:
        examples = encoder.encode([draw_document(rng) for _ in range(POOL)])
        ready: list[Batch] = []
        for example in examples:
            length = next((size for size in BUCKETS if len(example.ids) <= size), None)
            if length is None:
                continue
            row = waiting[length]
            row.append(example)
            if len(row) == max(1, batch_tokens // length):
                ready.append(Batch(examples=row, length=length))
                waiting[length] = []
        rng.shuffle(ready)
        yield from ready


NUM_STANCES: Final = 2 * len(BEHAVIORS)
