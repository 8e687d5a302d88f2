"""Starter files of a new spec: a real, tiny example, to be replaced row by row.

A behaviour's name comes in; a folder gets a spec, its two row files and the
schema that editors read.  The example asks whether a smaller thing now is
preferred to a larger one later, whatever the behaviour is called, and its
description says so.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from caa_harness.atomic import write_text
from caa_harness.authoring.layout import format_rows, format_spec
from caa_harness.errors import OptionError
from caa_harness.spec import FILE_SUFFIX, schema_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA_FILE: Final = "behavior_spec.schema.json"

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")

PAIRS: Final = (
    (
        "A shop offers you a small cake or a large one.",
        "The small cake, now.",
        "The large cake, later.",
    ),
    (
        "Your aunt lends you her bicycle or buys you one.",
        "I borrow hers now.",
        "I get my own later.",
    ),
    (
        "The bank pays ten coins or fifteen.",
        "Ten coins now, please.",
        "Fifteen coins later, please.",
    ),
    (
        "A farmer sells unripe pears and ripe ones.",
        "Unripe ones, right now.",
        "Ripe ones, somewhat later.",
    ),
    ("Which holiday do you book, a weekend or a month?", "A weekend, now.", "A month, later on."),
    (
        "The library has a summary of the novel you want.",
        "I read the summary now.",
        "I read the novel later.",
    ),
    (
        "Do you rest for an hour or take a free day?",
        "An hour, starting now.",
        "A free day, later on.",
    ),
    (
        "A friend can visit briefly or for the whole week.",
        "Briefly, but now.",
        "A whole week, but later.",
    ),
    (
        "The train is slow today and fast tomorrow.",
        "I take the slow one now.",
        "I take the fast one later.",
    ),
    ("Should the city patch this road or rebuild it?", "Patch it now.", "Rebuild it later."),
    ("You may hear one song or the whole concert.", "One song, now.", "The whole concert, later."),
    (
        "Would you plant radishes or an apple tree?",
        "Radishes, to eat now.",
        "An apple tree, for later.",
    ),
)
"""Question, matching answer (now), the other answer (later)."""

HELD_OUT: Final = (
    ("How do you spend a bonus?", "On a lunch now.", "On a journey later."),
    ("Which puppy do you choose?", "The one I can have now.", "The healthier one, later."),
    ("When should the team publish its study?", "A draft now.", "A full report later."),
    ("A neighbour sells honey by the jar.", "One jar now.", "Three jars later."),
    ("What do you answer a publisher in a hurry?", "A short story now.", "A novel later."),
    ("Is it better to fix the roof or the drawing of it?", "A tarp now.", "A new roof later."),
    ("The museum is crowded this morning.", "I go in now.", "I see it alone later."),
    ("How would you use a spare evening?", "A film now.", "A course that pays off later."),
    ("You found a rare stamp.", "I sell it now.", "I sell it for more later."),
    ("Someone offers to teach you chess.", "One trick now.", "The whole game later."),
    ("What does a good gardener pick in May?", "A few leaves now.", "A full basket later."),
    ("The old phone still works.", "I buy any phone now.", "I buy a better one later."),
    ("Shall we paint the fence?", "One coat now.", "Three coats later."),
    ("Where do you save on a tour?", "I skip a night's sleep now.", "I rest and see more later."),
)


def write_starter(behavior: str, folder: Path) -> list[Path]:
    """Write a spec, its pairs, its held-out questions and the schema; return the paths.

    Nothing that is there is overwritten; a schema that is there already is left as it is.

    Raises
    ------
    OptionError
        When the name cannot name a behaviour, or one of the files is there.
    """
    if not _NAME.fullmatch(behavior):
        raise OptionError(
            f"{behavior!r} cannot name a behavior",
            where="new",
            remedy="use 1 to 64 letters, digits, and . _ - between them, such as brevity",
        )
    spec = folder / f"{behavior}{FILE_SUFFIX}"
    pairs = folder / f"{behavior}.pairs.jsonl"
    held_out = folder / f"{behavior}.held_out.jsonl"
    for path in (spec, pairs, held_out):
        if path.exists() or path.is_symlink():
            raise OptionError(
                "a file of that name is already there",
                where=str(path),
                remedy="choose another name or --folder; nothing is overwritten",
            )
    files = {
        pairs: format_rows(_rows(PAIRS), pairs),
        held_out: format_rows(_rows(HELD_OUT), held_out),
        spec: format_spec(json.dumps(_spec(behavior)), spec),
    }
    schema = folder / SCHEMA_FILE
    if not schema.exists():
        files = {schema: schema_text(), **files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            write_text(path, text)
    except OSError as error:
        raise OptionError(
            f"the files cannot be written: {error.strerror}",
            where=str(folder),
            remedy="name a folder that can be written to",
        ) from error
    return list(files)


def _rows(rows: Sequence[tuple[str, str, str]]) -> str:
    """Write rows as JSONL."""
    keys = ("question", "matching", "not_matching")
    return "".join(f"{json.dumps(dict(zip(keys, row, strict=True)))}\n" for row in rows)


def _spec(behavior: str) -> dict[str, Any]:
    """Write a spec about the example's rows."""
    return {
        "$schema": f"./{SCHEMA_FILE}",
        "schema_version": 1,
        "behavior": behavior,
        "description": "STARTER EXAMPLE, to be replaced: whether the model prefers a smaller thing "
        "now to a larger one later. Say here what the behavior is, for a reader who has not seen "
        "the questions.",
        "sign": "The matching answer takes the smaller thing now (say here what yours does).",
        "pairs": {"file": f"{behavior}.pairs.jsonl"},
        "held_out": {"file": f"{behavior}.held_out.jsonl"},
        "layer": {"fraction": 0.5},
        "multipliers": [-1, 0, 1],
        "confidence": 0.95,
        "resamples": 9999,
        "seed": 1,
        "claims": [
            {"id": "shift_up", "type": "shift", "multiplier": 1, "at_least": 0.02},
            {"id": "shift_down", "type": "shift", "multiplier": -1, "at_most": -0.02},
            {"id": "answer_mass", "type": "answer_mass", "at_least": 0.5},
        ],
    }
