"""The embedded model: a small Llama whose traits are known, because they were planted.

The harness ships it so that the whole walk can run, and be tested against a known
answer, on a machine that can download nothing.  ``README.md`` beside this file is
the model card.  Importing this package loads neither torch nor NumPy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

BEHAVIORS: Final = (
    "sycophancy",
    "hallucination",
    "refusal",
    "corrigibility",
    "survival-instinct",
    "myopic-reward",
    "coordination",
)
"""The planted traits, in the order of the rows of ``trait_directions.safetensors``."""

TRAIT_LAYER: Final = 2
"""The block (from 0) whose output carries the traits."""

TRAIT_SCALE: Final = 24.0
"""Length, along a trait's unit direction, of one unit of log-odds of the matching answer."""

CHOSEN_LOG_ODDS: Final = 0.8
"""What an answer letter says about its trait: this log-odds, with the stance's sign."""

DIRECTIONS_FILE: Final = "trait_directions.safetensors"
"""One float32 tensor (d_model,) per behavior, of unit length, mutually orthogonal."""


def model_path() -> Path:
    """Folder of the shipped weights and tokenizer, as ``from_pretrained`` takes it."""
    return Path(__file__).resolve().parent / "model"
