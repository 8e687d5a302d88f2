"""Explain and power: what is promised before measuring is what a measurement then does."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from caa_harness.authoring.explain import explain, explanation_text
from caa_harness.authoring.power import ASSUMED_SD, claim_powers
from caa_harness.authoring.starter import write_starter
from caa_harness.cli import main
from caa_harness.engines.fake import open_fake
from caa_harness.errors import OptionError
from caa_harness.evaluation import measure
from caa_harness.spec import load_spec, load_specs, sibling_specs

SHIPPED = Path(__file__).parents[2] / "behavior_specs"


class Counting:
    """The fake engine, and what it was asked."""

    def __init__(self):
        self._fake = open_fake()
        self.calls = []

    def __getattr__(self, name):
        return getattr(self._fake, name)

    def answer_residuals(self, prompts, layers, **others):
        self.calls.append((len(prompts), 0))
        return self._fake.answer_residuals(prompts, layers, **others)

    def answer_logprobs(self, prompts, interventions, **others):
        self.calls.append((len(prompts), len(interventions)))
        return self._fake.answer_logprobs(prompts, interventions, **others)


def folder_with_all_claims(tmp_path):
    for name in ("myopic-reward", "patience"):
        write_starter(name, tmp_path)
    items = [
        {"question": f"What is {n}?", "options": [f"{n}", f"right {n}"], "correct": 1}
        for n in range(20)
    ]
    path = tmp_path / "patience.behavior.json"
    document = json.loads(path.read_text())
    document["capability"] = items
    document["family"] = "release"
    document["claims"] += [
        {"type": "null", "multiplier": 1, "draws": 19},
        {"type": "specificity", "multiplier": 1, "max_share": 0.5},
        {"type": "capability", "max_loss": 0.1},
        {"type": "dose_response"},
        {"type": "level", "multiplier": 0, "at_least": 0.1},
        {"type": "letter_part", "multiplier": 1, "at_most": 0.5},
    ]
    path.write_text(json.dumps(document))
    return path


def test_the_stages_are_what_an_engine_is_asked(tmp_path):
    spec = load_spec(folder_with_all_claims(tmp_path))
    engine = Counting()

    measure(spec, engine, siblings=sibling_specs(spec))

    planned = [(stage.num_prompts, stage.num_interventions) for stage in explain(spec).stages]
    assert planned == [engine.calls[0], *engine.calls[1:]]
    assert (28, 3 + 2 * 19) in planned


def test_every_claim_is_explained_with_the_level_it_is_judged_at(tmp_path):
    spec = load_spec(folder_with_all_claims(tmp_path))

    text = explanation_text(explain(spec))

    for claim in spec.claims:
        assert f"patience.behavior.json::{claim.id}\n" in text
    assert "nothing beyond" not in text
    assert explain(spec).powers[0].alpha == pytest.approx(0.025 / 9)


def test_a_family_divides_the_error_rate(tmp_path):
    path = folder_with_all_claims(tmp_path)
    alone = explain(load_spec(path)).powers[0]
    other = tmp_path / "myopic-reward.behavior.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "family": "release"}))

    shared = explain(load_spec(path)).powers[0]

    assert shared.alpha == alone.alpha / 2
    assert shared.detectable > alone.detectable


def test_the_detectable_distance_is_found_four_times_in_five():
    power = claim_powers(load_specs(SHIPPED)[0])[0]
    generator = np.random.default_rng(0)
    values = generator.normal(power.detectable, power.sd, (4000, power.num_clusters))

    found = stats.ttest_1samp(values, 0.0, axis=1, alternative="greater").pvalue <= power.alpha

    assert found.mean() == pytest.approx(0.8, abs=0.025)


def test_clusters_count_once(tmp_path):
    spec = load_spec(write_starter("patience", tmp_path)[-1])
    pairs = tuple(replace(q, cluster=f"c{i // 2}") for i, q in enumerate(spec.held_out))

    (power, *_) = claim_powers(replace(spec, held_out=pairs))

    assert (power.n, power.num_clusters) == (14, 7)
    assert power.detectable > claim_powers(spec)[0].detectable


def test_time_is_tokens_over_speed(tmp_path, capsys):
    path = write_starter("patience", tmp_path)[-1]

    assert main(["explain", str(path), "--tokens-per-second", "100", "--json"]) == 0

    (told,) = json.loads(capsys.readouterr().out)["specs"]
    assert told["estimated_seconds"] == told["estimated_tokens"] / 100
    assert sum(stage["estimated_tokens"] for stage in told["stages"]) == told["estimated_tokens"]


def test_the_spread_is_stated_and_can_be_given(tmp_path, capsys):
    path = str(write_starter("patience", tmp_path)[-1])

    assert main(["explain", path]) == 0
    assert f"assumed sd {ASSUMED_SD['shift']:g}" in capsys.readouterr().out
    assert main(["explain", path, "--sd", "0.4"]) == 0
    assert "assumed sd 0.4" in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"sd": 0.0}, {"tokens_per_second": math.inf}])
def test_numbers_that_say_nothing_are_refused(tmp_path, changed):
    spec = load_spec(write_starter("patience", tmp_path)[-1])

    with pytest.raises(OptionError, match="positive number"):
        explain(spec, **changed)
