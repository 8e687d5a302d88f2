"""The harness against a known truth: planted directions, and a planted regression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from caa_harness.engines.local import open_local
from caa_harness.organism import BEHAVIORS, DIRECTIONS_FILE, TRAIT_LAYER, model_path
from caa_harness.organism.weaken import write_weakened
from caa_harness.pipeline import Run, RunOptions
from caa_harness.scores import question_scores
from caa_harness.shipped import specs_folder
from caa_harness.spec import SpecificityClaim, load_spec
from caa_harness.vectors import compute_vectors

WEAKENED = "survival-instinct"


@pytest.fixture(scope="module")
def engine():
    return open_local(str(model_path()))


def own_claims_only(behavior):
    """A shipped spec without the claims that need the other specs' questions."""
    spec = load_spec(specs_folder() / f"{behavior}.behavior.json")
    claims = tuple(claim for claim in spec.claims if not isinstance(claim, SpecificityClaim))
    return replace(spec, claims=claims)


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_the_vector_points_along_the_planted_direction(engine, behavior):
    planted = load_file(model_path() / DIRECTIONS_FILE)
    spec = own_claims_only(behavior)

    direction = compute_vectors(engine, spec, [TRAIT_LAYER], seed=0).at(TRAIT_LAYER).direction

    cosines = {
        name: float(direction @ u) / float(np.linalg.norm(direction) * np.linalg.norm(u))
        for name, u in planted.items()
    }
    assert max(cosines, key=cosines.get) == behavior
    assert cosines[behavior] > 0.4
    assert all(abs(value) < 0.2 for name, value in cosines.items() if name != behavior)


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_system_prompts_shift_the_behavior_both_ways(engine, behavior):
    spec = own_claims_only(behavior)
    means = {}
    for name, system in (
        ("negative", spec.negative_system_prompt),
        ("none", None),
        ("positive", spec.positive_system_prompt),
    ):
        prompts = [
            engine.writer.question(question.question, options, system=system)
            for question in spec.held_out[::3]
            for options in (
                (question.matching, question.not_matching),
                (question.not_matching, question.matching),
            )
        ]
        logprobs = engine.answer_logprobs(prompts, [None]).logprobs[:, 0]
        means[name] = question_scores(logprobs.reshape(-1, 2, 2), "both_orders").mean()

    assert means["negative"] < means["none"] - 0.1
    assert means["positive"] > means["none"] + 0.1


def test_a_weakened_trait_is_caught_and_the_whole_model_passes(tmp_path):
    folder = write_weakened(WEAKENED, tmp_path / "weakened")
    spec = own_claims_only(WEAKENED)

    sound, broken = (
        {verdict.claim.id: verdict.outcome for verdict in Run(options).verdicts(spec)}
        for options in (RunOptions(), RunOptions(model=str(folder)))
    )

    assert set(sound.values()) == {"pass"}
    assert broken["shift_up"] == "fail"
    assert broken["shift_down"] == "fail"
    assert broken["dose_response"] != "pass"
