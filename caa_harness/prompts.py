"""Prompts: a question's texts in, token ids and positions out.

The harness writes the letters, the template writes the turns, and positions
come from the tokens of the text that was built, never from searching it.  No
model is needed, only its tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question as one model reads it, up to and including the `` (`` before the letter."""

    ids: tuple[int, ...]
    prompt_end: int
    """Number of tokens of the user's turn: ``ids[prompt_end:]`` are the answer's."""
    letter_ids: tuple[int, ...]
    """Token of each answer letter in this context; empty for open-ended prompts."""
    text: str
    template: str


class PromptWriter(Protocol):
    """Writes questions as one model's prompts."""

    @property
    def template(self) -> str:
        """``llama-2``, ``chat-template`` or ``plain``."""
        ...

    def question(self, question: str, options: tuple[str, ...], *, system: str | None = None) -> Prompt:
        """Write a question with its options lettered (A), (B), ... ending in `` (``."""
        ...

    def verbatim(self, question: str, *, num_letters: int = 2, system: str | None = None) -> Prompt:
        """Write a question that already holds its lettered choices."""
        ...

    def open_ended(self, prompt: str, *, system: str | None = None) -> Prompt:
        """Write a prompt to be continued; no `` (``, no letters."""
        ...
