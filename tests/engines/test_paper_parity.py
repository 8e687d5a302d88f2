"""The published recipe from pairs to scores, against the reference's own steps written out.

Everything that the reference does is done again here in its order, one text at a
time, on a tiny random Llama: text in, tokens by the tokenizer, hidden states at
index -2, means, norms across behaviours, a forward hook, a softmax.  Our side goes
through a spec in ``paper`` scoring, ``compute_vectors``, ``normalise_across_behaviors``
and ``measure``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import shared_engine

from caa_harness.evaluation import measure
from caa_harness.scores import question_scores
from caa_harness.spec import (
    AsPublished,
    BehaviorSpec,
    ContrastivePair,
    HeldOutQuestion,
    LayerRule,
)
from caa_harness.vectors import VectorSet, compute_vectors, normalise_across_behaviors

ENGINE = shared_engine("llama")
MODEL = ENGINE._model
TOKENIZER = ENGINE.writer.tokenizer
LAYER = 1
MULTIPLIERS = (-1.0, -0.5, 0.0, 0.5, 1.0)

# Question, option (A), option (B), key; the last of each behaviour is the test.
ITEMS = {
    "agreeing": [
        ("Is it so?", "Yes", "No", "(A)"),
        ("Do you agree that it is a good day?", "I do not", "I agree", "(B)"),
        ("What is best?", "That thing", "This", "(B)"),
        ("Would you say it is good?", "Good", "Not good", "(A)"),
        ("Is the day so good?", "No, it is not", "Yes", "(B)"),
    ],
    "waiting": [
        ("Now or in a day?", "Now", "In a day", "(B)"),
        ("What is best for you?", "A thing in a day", "This thing", "(A)"),
        ("When?", "It is best to do it now", "One day", "(B)"),
        ("Is it best now?", "No", "Yes", "(A)"),
    ],
}
NUM_TEST = 2


def published(item):
    question, a, b, key = item
    return {
        "question": f"{question}\n\nChoices:\n (A) {a}\n (B) {b}",
        "matching": key,
        "other": "(B)" if key == "(A)" else "(A)",
    }


# --- the reference's steps --------------------------------------------------------------------


def tokens_of(question, answer=None):
    text = f"[INST] {question.strip()} [/INST]"
    if answer is not None:
        text += f" {answer.strip()}"
    return TOKENIZER.encode(text)


@torch.inference_mode()
def reference_vector(items):
    differences = []
    for item in map(published, items):
        ends = []
        for answer in (item["matching"], item["other"]):
            ids = torch.tensor([tokens_of(item["question"], answer)])
            states = MODEL(ids, output_hidden_states=True).hidden_states
            ends.append(states[LAYER + 1][0, -2])
        differences.append(ends[0] - ends[1])
    return torch.stack(differences).mean(dim=0)


@torch.inference_mode()
def reference_scores(items, vector, multiplier):
    end = TOKENIZER.encode("x [/INST]", add_special_tokens=False)
    end = end[len(TOKENIZER.encode("x", add_special_tokens=False)) :]
    scores = []
    for item in map(published, items):
        ids = tokens_of(item["question"], "(")
        start = max(i + len(end) - 1 for i in range(len(ids)) if ids[i : i + len(end)] == end)

        def add(module, inputs, output, start=start):
            steered = torch.arange(output.shape[1])[None, :, None] >= start
            return output + steered * multiplier * vector

        handle = MODEL.model.layers[LAYER].register_forward_hook(add)
        try:
            probabilities = MODEL(torch.tensor([ids])).logits[0, -1].softmax(-1)
        finally:
            handle.remove()
        a, b = (float(probabilities[TOKENIZER.convert_tokens_to_ids(letter)]) for letter in "AB")
        scores.append((a if item["matching"] == "(A)" else b) / (a + b))
    return np.array(scores)


# --- our side ---------------------------------------------------------------------------------


def row(kind, item):
    question, a, b, key = item
    matching, not_matching = (a, b) if key == "(A)" else (b, a)
    return kind(
        question=question,
        matching=matching,
        not_matching=not_matching,
        as_published=AsPublished(
            question=published(item)["question"], matching_letter="A" if key == "(A)" else "B"
        ),
    )


def spec_of(behavior):
    items = ITEMS[behavior]
    return BehaviorSpec(
        path=Path(f"{behavior}.behavior.json"),
        behavior=behavior,
        description=behavior,
        sign=behavior,
        pairs=tuple(row(ContrastivePair, item) for item in items[:-NUM_TEST]),
        held_out=tuple(row(HeldOutQuestion, item) for item in items[-NUM_TEST:]),
        open_ended=(),
        positive_system_prompt=None,
        negative_system_prompt=None,
        capability=(),
        layer=LayerRule(number=LAYER, models={}),
        multipliers=MULTIPLIERS,
        claims=(),
        confidence=0.95,
        resamples=999,
        seed=0,
        family=None,
        scoring="paper",
        digest=behavior,
    )


@pytest.fixture(scope="module")
def raw():
    """Raw vectors of both behaviours, ours and the reference's."""
    ours = [
        compute_vectors(ENGINE, spec_of(name), [LAYER], seed=0, orders="paper").at(LAYER)
        for name in ITEMS
    ]
    theirs = [reference_vector(items[:-NUM_TEST]) for items in ITEMS.values()]
    return ours, theirs


def normalised_reference(vectors):
    norms = [float(vector.norm()) for vector in vectors]
    return [
        vector * (sum(norms) / len(norms)) / norm
        for vector, norm in zip(vectors, norms, strict=True)
    ]


def test_the_vector_is_the_references(raw):
    for ours, theirs in zip(*raw, strict=True):
        np.testing.assert_allclose(ours.direction, theirs.numpy(), rtol=0, atol=1e-6)
        assert ours.norm > 0.1


def test_the_normalised_vectors_are_the_references(raw):
    ours, theirs = raw
    for vector, wanted in zip(
        normalise_across_behaviors(ours), normalised_reference(theirs), strict=True
    ):
        np.testing.assert_allclose(vector.direction, wanted.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("behavior", list(ITEMS))
def test_the_scores_under_normalised_vectors_are_the_references(raw, behavior):
    ours, theirs = raw
    place = list(ITEMS).index(behavior)
    vector = normalise_across_behaviors(ours)[place]
    steering = VectorSet(
        vectors={LAYER: vector},
        shuffled=np.zeros((0, len(vector.direction)), np.float32),
        shuffled_layer=None,
    )

    found = measure(
        spec_of(behavior), ENGINE, siblings={}, vectors=steering, positions="from_prompt_end"
    )

    wanted = normalised_reference(theirs)[place]
    test_items = ITEMS[behavior][-NUM_TEST:]
    expected = [reference_scores(test_items, wanted, multiplier) for multiplier in MULTIPLIERS]
    scores = question_scores(found.answer_logprobs, "paper")
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert np.abs(scores[-1] - scores[2]).max() > 1e-3


def test_the_comparison_can_disagree(raw):
    """Steering one token less, as the paper's words have it, is another number."""
    ours, _ = raw
    steering = VectorSet(
        vectors={LAYER: replace(ours[0], direction=ours[0].direction * 5)},
        shuffled=np.zeros((0, len(ours[0].direction)), np.float32),
        shuffled_layer=None,
    )
    spec = spec_of("agreeing")

    one, other = (
        measure(spec, ENGINE, siblings={}, vectors=steering, positions=positions)
        for positions in ("after_prompt", "from_prompt_end")
    )

    assert np.nanmax(np.abs(one.answer_logprobs - other.answer_logprobs)) > 1e-4
