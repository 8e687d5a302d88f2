"""Small specs, and numbers recorded for them, written for the test that asks for them."""

from __future__ import annotations

import json

import numpy as np
import pytest

# What a session within a test imports is forgotten with it: these stay, to keep that cheap.
import caa_harness.pipeline
import caa_harness.report.terminal  # noqa: F401
from caa_harness.engines import ModelCard
from caa_harness.evaluation import Measurements, VectorSummary, write_measurements
from caa_harness.measurements import CapabilityMeasurements
from caa_harness.spec import load_spec

NUM_QUESTIONS = 24
CLAIMS = (
    {"type": "shift", "multiplier": 1, "at_least": 0.1},
    {"type": "shift", "multiplier": -1, "at_most": -0.1},
    {"type": "level", "multiplier": 0, "at_least": 0.05, "at_most": 0.95},
)


def rows(word, count):
    """Questions that the fake engine has a view on: it knows ``agree`` and ``disagree``."""
    return [
        {
            "question": f"{word} question {number}: what is said of place number {number}?",
            "matching": f"I agree, place {number} is grand",
            "not_matching": f"I disagree, place {number} is plain",
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
        "held_out": rows("Held-out", NUM_QUESTIONS),
        "layer": {"fraction": 0.5},
        "multipliers": [-2, -1, 0, 1, 2],
        "claims": list(claims),
        "resamples": 999,
        "seed": 7,
    }
    return json.dumps({**spec, **changes}, indent=2)


@pytest.fixture(autouse=True)
def no_neighbours(pytester, monkeypatch):
    """Leave out plugins that have nothing to say here, and take long to say it."""
    others = ("hypothesispytest", "jaxtyping", "anyio")
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)  # where they are set, pytest writes longer lines
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(f"-p no:{name}" for name in others))


@pytest.fixture
def write_spec(pytester):
    """Write a spec file under the test's folder; returns its path."""

    def write(behavior="candor", claims=CLAIMS, folder="specs", **changes):
        path = pytester.path / folder / f"{behavior}.behavior.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(spec_json(behavior, claims, **changes), encoding="utf-8")
        return path

    return write


def recorded_numbers(spec, *, slope, spread, capability_loss, notes=()):
    """Measurements with a known slope of the log-odds per unit of multiplier."""
    rng = np.random.default_rng(5)
    multipliers = np.array(spec.multipliers)
    unsteered = rng.normal(0.0, 0.8, NUM_QUESTIONS)
    noise = rng.normal(0.0, 1.0, NUM_QUESTIONS)
    slopes = slope + spread * (noise - noise.mean()) / noise.std()
    logodds = unsteered + multipliers[:, None] * slopes
    matching, other = -np.logaddexp(0, -logodds), -np.logaddexp(0, logodds)
    first = np.stack([matching, other], axis=-1)
    answers = np.stack([first, first[..., ::-1]], axis=2) + np.log(0.97)
    probe = None
    if spec.capability:
        right = (
            0.7
            - capability_loss * np.abs(multipliers)[:, None]
            + rng.normal(0, 0.02, (len(multipliers), len(spec.capability)))
        )
        wrong = (1 - right) / 3
        probe = CapabilityMeasurements(
            multipliers=spec.multipliers,
            option_logprobs=np.log(np.stack([right, wrong, wrong, wrong], axis=-1)).astype("f4"),
            correct=np.zeros(len(spec.capability), dtype=np.int64),
            categories=(None,) * len(spec.capability),
        )
    return Measurements(
        behavior=spec.behavior,
        spec_digest=spec.digest,
        scoring=spec.scoring,
        model=ModelCard(
            name="org/recorded-7b",
            architecture="LlamaForCausalLM",
            num_layers=32,
            d_model=4096,
            dtype="bfloat16",
            device="cuda:0",
            template="llama-2",
            weights_digest="0123456789abcdef",
            tokenizer_digest="fedcba9876543210",
        ),
        vector=VectorSummary(
            layer=16,
            norm=3.5,
            num_pairs=len(spec.pairs),
            mean_residual_norm=40.0,
            digest="00ff",
            normalisation="raw",
        ),
        multipliers=spec.multipliers,
        questions=tuple(question.digest for question in spec.held_out),
        clusters=(None,) * len(spec.held_out),
        answer_logprobs=answers.astype(np.float32),
        capability=probe,
        nulls=(),
        others=(),
        open_ended=(),
        unscored=(),
        notes=tuple(notes),
    )


@pytest.fixture
def record(pytester):
    """Leave numbers for a spec in ``recorded``, for ``--caa-replay recorded``."""

    def leave(path, *, slope=1.0, spread=0.1, capability_loss=0.0, notes=()):
        folder = pytester.path / "recorded"
        folder.mkdir(exist_ok=True)
        spec = load_spec(path)
        numbers = recorded_numbers(
            spec, slope=slope, spread=spread, capability_loss=capability_loss, notes=notes
        )
        write_measurements(numbers, folder / f"{spec.behavior}.measurements.json")

    return leave


@pytest.fixture
def recorded_spec(write_spec, record):
    """Write a spec and numbers for it: slope 1 supports all claims, 0 refutes the shifts."""

    def write(behavior="candor", claims=CLAIMS, *, slope=1.0, spread=0.1, **changes):
        path = write_spec(behavior, claims, **changes)
        record(path, slope=slope, spread=spread)
        return path

    return write
