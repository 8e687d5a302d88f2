"""The walk: each dear step once, over one process or several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from caa_harness import pipeline
from caa_harness.engines.fake import open_fake
from caa_harness.errors import EngineError, HarnessError, OptionError
from caa_harness.pipeline import Run, RunOptions
from caa_harness.spec import load_spec

FAKE = RunOptions(model="fake")
WORDS = {
    "sycophancy": ("agree", "disagree"),
    "refusal": ("refuse", "help"),
    "corrigibility": ("accept", "resist"),
}
SHIFT = {"type": "shift", "multiplier": 1, "at_least": 0.05}
SPECIFIC = {"type": "specificity", "multiplier": 1, "max_share": 0.9}


def rows(behavior, kind, count):
    matching, other = WORDS[behavior]
    return [
        {
            "question": f"{kind} {behavior} {number}?",
            "matching": f"I {matching}, {number}",
            "not_matching": f"I {other}, {number}",
        }
        for number in range(count)
    ]


def write_spec(folder, behavior, claims=(SHIFT, SPECIFIC)):
    path = folder / f"{behavior}.behavior.json"
    spec = {
        "schema_version": 1,
        "behavior": behavior,
        "description": "d",
        "sign": "s",
        "pairs": rows(behavior, "pair", 8),
        "held_out": rows(behavior, "question", 12),
        "layer": 2,
        "multipliers": [-1, 0, 1],
        "claims": list(claims),
        "resamples": 999,
        "seed": 3,
    }
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


@pytest.fixture
def paths(tmp_path):
    return [write_spec(tmp_path, behavior) for behavior in WORDS]


@pytest.fixture
def measured(monkeypatch):
    """Which specs each call to the engine's side was made for."""
    calls = []
    real = pipeline.measure_together

    def counted(specs, *rest, **options):
        calls.append([spec.behavior for spec in specs])
        return real(specs, *rest, **options)

    monkeypatch.setattr(pipeline, "measure_together", counted)
    return calls


def test_a_spec_is_measured_once_however_often_it_is_asked_for(paths, measured):
    run = Run(FAKE)
    spec = run.spec(paths[0])

    first = run.measurements(spec)

    assert run.measurements(spec) is first
    assert run.verdicts(spec) is run.verdicts(spec)
    assert run.summary(spec) is run.summary(spec)
    assert measured == [["sycophancy"]]


def test_the_specs_a_run_expects_are_measured_together(paths, measured):
    run = Run(FAKE)
    run.expect(paths)

    for path in paths:
        assert run.verdicts(run.spec(path))

    assert measured == [sorted(WORDS)]


def test_a_spec_read_by_its_caller_is_the_same_spec(paths, measured, monkeypatch):
    monkeypatch.chdir(paths[0].parent)
    run = Run(FAKE)
    run.expect(paths)

    run.measurements(load_spec(Path(paths[0].name)))

    assert measured == [sorted(WORDS)]


def test_together_and_alone_the_verdicts_are_the_same(paths):
    together, alone = Run(FAKE), Run(FAKE)
    together.expect(paths)

    for path in paths:
        one, other = (run.verdicts(run.spec(path)) for run in (together, alone))
        assert [verdict.reason for verdict in one] == [verdict.reason for verdict in other]


def test_one_spec_that_cannot_be_measured_does_not_take_the_others_with_it(
    paths, tmp_path, monkeypatch
):
    real = pipeline.measure_together

    def broken(specs, *rest, **options):
        if any(spec.behavior == "refusal" for spec in specs):
            raise EngineError("no answer", where="refusal", remedy="look")
        return real(specs, *rest, **options)

    monkeypatch.setattr(pipeline, "measure_together", broken)
    run = Run(FAKE)
    run.expect(paths)

    assert run.verdicts(run.spec(paths[0]))
    with pytest.raises(EngineError, match="no answer"):
        run.verdicts(run.spec(paths[1]))
    assert run.verdicts(run.spec(paths[2]))


def test_what_failed_is_not_tried_again(monkeypatch, paths):
    calls = []

    def failing(options):
        calls.append(options)
        raise EngineError("gone", where="model", remedy="look")

    monkeypatch.setattr(pipeline, "open_engine", failing)
    run = Run(FAKE)

    for path in paths * 2:
        with pytest.raises(EngineError, match="gone"):
            run.measurements(run.spec(path))

    assert len(calls) == 1


def test_processes_that_share_a_folder_measure_once(paths, measured, tmp_path):
    options = replace(FAKE, shared_folder=tmp_path / "shared")
    first, second = Run(options), Run(options)
    for run in (first, second):
        run.expect(paths)

    mine = first.measurements(first.spec(paths[0]))
    theirs = second.measurements(second.spec(paths[0]))

    assert measured == [sorted(WORDS)]
    assert theirs.answer_logprobs.tobytes() == mine.answer_logprobs.tobytes()


def test_other_options_do_not_find_what_was_shared(paths, measured, tmp_path):
    shared = tmp_path / "shared"
    for layer in (1, 2):
        run = Run(replace(FAKE, shared_folder=shared, layer=layer))
        run.measurements(run.spec(paths[0]))

    assert len(measured) == 2


def test_recorded_numbers_are_judged_again_without_a_model(paths, tmp_path, monkeypatch):
    recorded = Run(replace(FAKE, record=tmp_path / "recorded"))
    verdicts = recorded.verdicts(recorded.spec(paths[0]))
    monkeypatch.setattr(pipeline, "open_engine", pytest.fail)

    replayed = Run(replace(FAKE, replay=tmp_path / "recorded"))

    again = replayed.verdicts(replayed.spec(paths[0]))
    assert [verdict.reason for verdict in again] == [verdict.reason for verdict in verdicts]


def test_recorded_numbers_serve_other_claims(paths, tmp_path):
    recorded = Run(replace(FAKE, record=tmp_path / "recorded"))
    recorded.measurements(recorded.spec(paths[0]))
    write_spec(tmp_path, "sycophancy", claims=[{**SHIFT, "at_least": 0.99}])

    replayed = Run(replace(FAKE, replay=tmp_path / "recorded"))

    (verdict,) = replayed.verdicts(replayed.spec(paths[0]))
    assert verdict.outcome == "fail"


def test_a_replayed_run_has_no_model(paths, tmp_path):
    with pytest.raises(OptionError, match="has no model"):
        _ = Run(replace(FAKE, replay=tmp_path)).engine


def test_the_vector_is_the_one_that_was_measured_with(paths):
    run = Run(FAKE)
    spec = run.spec(paths[0])

    vector = run.vector(spec)

    assert vector.digest == run.measurements(spec).vector.digest
    planted = open_fake().planted_direction("sycophancy")
    assert vector.direction @ planted > 0.9 * vector.norm


def test_a_layer_outside_the_model_is_said_with_its_range(paths):
    run = Run(replace(FAKE, layer=9))

    with pytest.raises(HarnessError, match="layer 9") as caught:
        run.measurements(run.spec(paths[0]))

    assert "3" in str(caught.value)
