"""Running out of memory: smaller batches, the same answers, and a note that says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import direction, engine_of

from caa_harness.engines import Intervention
from caa_harness.errors import EngineError


def steer(layer=1, multiplier=1.0):
    return Intervention(layer=layer, direction=direction(), multiplier=multiplier)


def questions(engine, *texts):
    return [engine.writer.question(text, ("Yes", "No")) for text in texts or ("Is it?", "So?")]


def short_of_memory(engine, most_rows):
    """Let the model run out of memory on batches that are too large."""

    def refuse(_module, _inputs, keywords):
        if len(keywords["input_ids"]) > most_rows:
            raise torch.OutOfMemoryError

    return engine._anatomy.decoder.register_forward_pre_hook(refuse, with_kwargs=True)


def short_of_memory_in_branches(engine, most_tokens):
    """Let the last block, which sees branches alone, run out of memory on too many tokens."""

    def refuse(_module, inputs):
        if inputs[0].shape[1] > most_tokens:
            raise torch.OutOfMemoryError

    return engine._anatomy.blocks[-1].mlp.register_forward_pre_hook(refuse)


def test_out_of_memory_halves_the_batch_and_says_so():
    engine = engine_of("llama")
    prompts = questions(engine, *("Is it" + "?" * n for n in range(7)))
    wanted = engine.answer_logprobs(prompts, [None, steer()])

    handle = short_of_memory(engine, most_rows=2)
    found = engine.answer_logprobs(prompts, [None, steer()])
    rows = [r for batch in engine.answer_residuals(prompts, [1]) for r in batch.rows.tolist()]
    handle.remove()

    assert wanted.notes == ()
    assert found.notes == (
        "batch halved to 3 prompts after out of memory",
        "batch halved to 1 prompts after out of memory",
    )
    assert found.receipt == wanted.receipt
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, atol=1e-5)
    assert sorted(rows) == list(range(7))


def test_out_of_memory_halves_the_branches_of_a_single_prompt():
    engine = engine_of("llama")
    prompts = questions(engine, "Is it?")
    interventions = [steer(0, m) for m in range(-60, 61)]
    wanted = engine.answer_logprobs(prompts, interventions)

    handle = short_of_memory_in_branches(engine, most_tokens=45)
    found = engine.answer_logprobs(prompts, interventions)
    handle.remove()
    assert found.notes[-1].startswith("branches halved to 30 tokens")
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, atol=1e-5)


def test_out_of_memory_while_generating_halves_the_rows():
    engine = engine_of("llama")
    prompts = questions(engine)
    wanted = engine.generate(prompts, [None, steer(), steer(2)], max_new_tokens=3)

    handle = short_of_memory(engine, most_rows=2)
    found = engine.generate(prompts, [None, steer(), steer(2)], max_new_tokens=3)
    handle.remove()
    assert found.texts == wanted.texts
    assert found.receipt == wanted.receipt
    assert found.notes


def test_out_of_memory_with_nothing_left_to_halve_is_an_error():
    engine = engine_of("llama")
    handle = short_of_memory(engine, most_rows=0)

    with pytest.raises(EngineError, match=r"out of memory with a single prompt(.|\n)*bfloat16"):
        engine.answer_logprobs(questions(engine), [None])
    handle.remove()
