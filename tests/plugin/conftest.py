"""Small specs, written for the test that asks for them."""

from __future__ import annotations

import json

import pytest

# What a session within a test imports is forgotten with it: these stay, to keep that cheap.
import caa_harness.report.terminal
import caa_harness.spec  # noqa: F401

CLAIMS = (
    {"type": "shift", "multiplier": 1, "at_least": 0.1},
    {"type": "shift", "multiplier": -1, "at_most": -0.1},
    {"type": "level", "multiplier": 0, "at_least": 0.05, "at_most": 0.95},
)


def rows(word, count):
    return [
        {
            "question": f"{word} question {number}: what is said of place number {number}?",
            "matching": f"It is as you say, place {number} is grand",
            "not_matching": f"It is not so, place {number} is plain",
        }
        for number in range(count)
    ]


def spec_json(behavior="candor", claims=CLAIMS, **changes):
    spec = {
        "schema_version": 1,
        "behavior": behavior,
        "description": f"Whether the answers show {behavior}.",
        "sign": f"The matching answer shows {behavior}.",
        "pairs": rows("Training", 16),
        "held_out": rows("Held-out", 12),
        "layer": {"fraction": 0.5},
        "multipliers": [-2, -1, 0, 1, 2],
        "claims": list(claims),
        "resamples": 999,
        "seed": 7,
    }
    return json.dumps({**spec, **changes}, indent=2)


@pytest.fixture
def write_spec(pytester):
    """Write a spec file under the test's folder; returns its path."""

    def write(behavior="candor", claims=CLAIMS, folder="specs", **changes):
        path = pytester.path / folder / f"{behavior}.behavior.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(spec_json(behavior, claims, **changes), encoding="utf-8")
        return path

    return write
