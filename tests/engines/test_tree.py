"""One pass over trunk and branches: equal to the path over whole branches, and nothing twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FAMILIES, NUM_LAYERS, direction, engine_of, shared_engine

from caa_harness.engines import Intervention

TEXTS = ("Is it?", "Is it the case that it is so?", "Why?")
interventions = st.one_of(
    st.none(),
    st.builds(
        lambda layer, seed, multiplier, positions: Intervention(
            layer=layer, direction=direction(seed), multiplier=multiplier, positions=positions
        ),
        st.integers(0, NUM_LAYERS - 1),
        st.integers(0, 2),
        st.sampled_from([-2.0, -0.5, 0.0, 1.0]),
        st.sampled_from(["after_prompt", "from_prompt_end"]),
    ),
)


def questions(engine):
    return [engine.writer.question(text, ("Yes", "No")) for text in TEXTS]


def by_whole_branches(engine, prompts, asked):
    """The other path: every branch runs through every block."""
    passes = engine._passes
    passes._block_by_block = False
    try:
        return engine.answer_logprobs(prompts, asked)
    finally:
        passes._block_by_block = True


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(asked=st.lists(interventions, min_size=1, max_size=8))
def test_any_mixture_is_what_whole_branches_give(family, attention, asked):
    engine = shared_engine(family) if attention == "sdpa" else engine_of(family, attention="eager")
    prompts = questions(engine)
    assert engine._passes._block_by_block

    found = engine.answer_logprobs(prompts, asked)
    wanted = by_whole_branches(engine, prompts, asked)
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, atol=1e-5)
    assert found.receipt == wanted.receipt


@pytest.mark.parametrize("most_tokens", [1, 3, 5])
def test_chunks_of_branches_do_not_show(most_tokens, monkeypatch):
    engine = shared_engine("llama")
    asked = [
        None,
        *(
            Intervention(layer=layer, direction=direction(layer), multiplier=1.0, positions=rule)
            for layer in range(NUM_LAYERS)
            for rule in ("after_prompt", "from_prompt_end")
        ),
    ]
    whole = engine.answer_logprobs(questions(engine), asked)

    monkeypatch.setattr("caa_harness.engines.local._queue._MOST_BRANCH_TOKENS", most_tokens)
    monkeypatch.setattr(type(engine), "_tokens", lambda _: most_tokens)
    parts = engine.answer_logprobs(questions(engine), asked)
    np.testing.assert_allclose(parts.logprobs, whole.logprobs, atol=1e-5)
    assert parts.receipt == whole.receipt


def test_a_branch_runs_through_the_blocks_above_its_own_and_no_other():
    engine = shared_engine("llama")
    (prompt, *_) = questions(engine)
    num_tokens = [0] * NUM_LAYERS
    handles = []
    for number, block in enumerate(engine._anatomy.blocks):

        def count(_mlp, inputs, number=number):
            num_tokens[number] += inputs[0].shape[:2].numel()

        handles.append(block.mlp.register_forward_pre_hook(count))
    try:
        engine.answer_logprobs(
            [prompt],
            [
                None,
                *(
                    Intervention(layer=layer, direction=direction(), multiplier=multiplier)
                    for layer in range(NUM_LAYERS)
                    for multiplier in (-1.0, 1.0)
                ),
            ],
        )
    finally:
        for handle in handles:
            handle.remove()
    trunk = len(prompt.ids)
    # Of the last block the trunk needs its keys and values alone.
    assert num_tokens == [trunk, trunk + 2, trunk + 4, 6 + 1]
