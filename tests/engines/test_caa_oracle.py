"""The local engine against a straight line: the paper's method, written out without any of ours.

One prompt at a time, no cache, no padding, no hooks: the blocks are called in a loop, and the
vector is added between two of them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import NUM_LAYERS, direction, shared_engine

from caa_harness.engines import Intervention

ENGINE = shared_engine("llama")
MODEL = ENGINE._model
PAIRS = [
    ("Is it so?", "Yes", "No"),
    ("Do you agree that it is a good day?", "I agree", "I do not"),
    ("What is best?", "This", "That thing over there"),
]


def straight_line(ids, *, add=None, layer=None, start=None):
    """Residual stream after every block, and log-probabilities of the next token."""
    body = MODEL.model
    length = len(ids)
    hidden = body.embed_tokens(torch.tensor([ids]))
    rotary = body.rotary_emb(hidden, torch.arange(length)[None])
    future = torch.full((length, length), float("-inf")).triu(1)[None, None]
    stream = []
    for number, block in enumerate(body.layers):
        hidden = block(hidden, attention_mask=future, position_embeddings=rotary)
        if number == layer:
            steered = torch.arange(length)[None, :, None] >= start
            hidden = hidden + steered * torch.from_numpy(add)
        stream.append(hidden[0])
    logits = MODEL.lm_head(body.norm(hidden))[0, -1]
    return torch.stack(stream), logits.log_softmax(-1)


def both_orders():
    """Prompts of every pair, first with the matching answer as A, then as B."""
    for question, matching, other in PAIRS:
        yield ENGINE.writer.question(question, (matching, other)), 0
        yield ENGINE.writer.question(question, (other, matching)), 1


@torch.inference_mode()
def test_the_mean_difference_is_the_papers():
    prompts = list(both_orders())
    expected = np.zeros((NUM_LAYERS, MODEL.config.hidden_size))
    for prompt, matching in prompts:
        ends = [straight_line([*prompt.ids, letter])[0][:, -1] for letter in prompt.letter_ids]
        expected += (ends[matching] - ends[1 - matching]).double().numpy() / len(prompts)

    found = np.zeros_like(expected)
    for batch in ENGINE.answer_residuals([p for p, _ in prompts], range(NUM_LAYERS)):
        for row, residuals in zip(batch.rows, batch.residuals.astype(np.float64), strict=True):
            matching = prompts[row][1]
            found += (residuals[matching] - residuals[1 - matching]) / len(prompts)

    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("positions", ["after_prompt", "from_prompt_end"])
@torch.inference_mode()
def test_answer_probabilities_are_the_papers(positions):
    prompts = [prompt for prompt, _ in both_orders()]
    interventions = [
        Intervention(
            layer=layer, direction=direction(layer), multiplier=multiplier, positions=positions
        )
        for layer in range(NUM_LAYERS)
        for multiplier in (-1.0, 0.0, 1.0)
    ]
    expected = np.array(
        [
            [
                straight_line(
                    prompt.ids,
                    add=np.float32(intervention.multiplier) * intervention.direction,
                    layer=intervention.layer,
                    start=prompt.prompt_end - (positions == "from_prompt_end"),
                )[1][list(prompt.letter_ids)].numpy()
                for intervention in interventions
            ]
            for prompt in prompts
        ]
    )

    found = ENGINE.answer_logprobs(prompts, interventions).logprobs
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@torch.inference_mode()
def test_the_oracle_can_disagree():
    """Starting one token early, or one block late, is seen by the comparison above."""
    prompt, _ = next(both_orders())
    letters = list(prompt.letter_ids)
    right = {"add": direction(), "layer": 1, "start": prompt.prompt_end}

    expected = straight_line(prompt.ids, **right)[1][letters].exp()
    for wrong in ({"start": prompt.prompt_end - 1}, {"layer": 2}, {"add": -direction()}):
        found = straight_line(prompt.ids, **{**right, **wrong})[1][letters].exp()
        assert (found - expected).abs().max() > 1e-5


@pytest.mark.parametrize("positions", ["after_prompt", "from_prompt_end"])
@torch.inference_mode()
def test_pitfall_08_generation_with_a_cache_equals_full_recomputation(positions):
    """Pitfall 4 as well: every generated token is steered, not the prompt's tokens alone."""
    prompt = ENGINE.writer.open_ended("Why do you say so?")
    tokenizer = ENGINE.writer.tokenizer
    for layer in range(NUM_LAYERS):
        intervention = Intervention(
            layer=layer, direction=direction(layer, 9.0), multiplier=1.0, positions=positions
        )
        ids = list(prompt.ids)
        for _ in range(8):
            start = prompt.prompt_end - (positions == "from_prompt_end")
            _, next_token = straight_line(ids, add=intervention.direction, layer=layer, start=start)
            ids.append(int(next_token.argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break

        (texts,) = ENGINE.generate([prompt], [None, intervention], max_new_tokens=8).texts
        expected = tokenizer.decode(ids[len(prompt.ids) :], skip_special_tokens=True).strip()
        assert texts[1] == expected
        assert texts[0] != expected
