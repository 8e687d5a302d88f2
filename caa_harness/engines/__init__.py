"""The door to a model: three questions, no state.

An engine reads the residual stream at the answer letters, scores the answer
letters under many interventions at once, and generates under many
interventions at once.  An intervention is an argument of the question; nothing
is left on the model afterwards.  Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jaxtyping import Float32, Int64

    from caa_harness.prompts import Prompt, PromptWriter

PositionRule = Literal["after_prompt", "from_prompt_end"]
"""Which tokens an intervention reaches.

``after_prompt``: every token after the user's turn (the paper's words).
``from_prompt_end``: the last token of the user's turn as well (the reference code, ``>=``).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a number must carry to say which model it was measured on."""

    name: str
    architecture: str
    num_layers: int
    d_model: int
    dtype: str
    device: str
    template: str
    weights_digest: str
    tokenizer_digest: str
    attention: str = "none"
    packages: tuple[tuple[str, str], ...] = ()
    """Versions that can move a number: ``(("torch", "2.13.0"), ...)``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Intervention:
    """Add ``multiplier * direction`` to the residual stream after block ``layer``."""

    layer: int
    """Decoder block, counted from 0; never negative."""
    direction: Float32[np.ndarray, " d_model"]
    multiplier: float
    positions: PositionRule = "after_prompt"

    @property
    def is_identity(self) -> bool:
        """Whether the multiplier is 0, which is bit-identical to no intervention."""
        return self.multiplier == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an engine really steered, counted where it was added.

    Engines compare this with what was asked for and raise when the two differ.
    """

    num_rows: int
    """Prompt x intervention pairs that got a delta (identities get none)."""
    num_positions: int
    """Row x token positions that got a delta, padding not counted."""
    layers: tuple[int, ...]
    """Blocks whose output got a delta, in ascending order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResidualBatch:
    """Residual stream at each answer letter of some prompts."""

    rows: Int64[np.ndarray, " row"]
    """Which prompts of the call these are."""
    residuals: Float32[np.ndarray, "row letter layer d_model"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswerLogprobs:
    """Log-probability of every answer letter, out of the whole vocabulary."""

    logprobs: Float32[np.ndarray, "prompt intervention letter"]
    receipt: Receipt
    notes: tuple[str, ...] = field(default=())
    """What a reader should know, such as ``batch halved to 16 after out of memory``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generations:
    """Greedy continuations, without the prompt, special tokens and white space around them."""

    texts: tuple[tuple[str, ...], ...]
    """``texts[prompt][intervention]``."""
    receipt: Receipt
    notes: tuple[str, ...] = field(default=())


@runtime_checkable
class Engine(Protocol):
    """Three questions to a model; see the module's words.

    ``progress`` is told how many prompts were finished since it was last told.
    """

    @property
    def card(self) -> ModelCard:
        """Which model this is."""
        ...

    @property
    def writer(self) -> PromptWriter:
        """Writes questions as this model's prompts."""
        ...

    def answer_residuals(
        self,
        prompts: Sequence[Prompt],
        layers: Sequence[int],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[ResidualBatch]:
        """Residual stream after each of ``layers`` at each answer letter of each prompt.

        A prompt ends with the tokens before the letter (`` (``); each of its
        ``letter_ids`` is a branch of it, one token long, and is read there.
        Batches come as they are computed, each prompt exactly once, in any order.

        Raises
        ------
        EngineError
            When a layer is outside the model, or a residual is not finite.
        """
        ...

    def answer_logprobs(
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention | None],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> AnswerLogprobs:
        """Score the answer letters of every prompt under every intervention.

        ``None`` and multiplier 0 are the unsteered model and give equal bytes.
        All prompts of a call offer the same number of letters.

        Raises
        ------
        EngineError
            When a layer or a direction does not fit the model, a log-probability is
            not finite, or the receipt differs from what was asked for.
        """
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention | None],
        *,
        max_new_tokens: int,
        progress: Callable[[int], None] | None = None,
    ) -> Generations:
        """Continue every prompt greedily under every intervention."""
        ...
