"""What every engine promises at the door, held against each of them."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from tiny_models import FAMILIES, direction, shared_engine

from caa_harness.engines import Engine, Intervention
from caa_harness.engines.fake import open_fake
from caa_harness.errors import EngineError

ENGINES = ["fake", *FAMILIES]
QUESTIONS = [
    "Is it?",
    "Is it so, or do you see it in some other way?",
    "Why?",
    "Do you think it is?",
    "Is it?",
]
OPTIONS = ("I agree", "I disagree")


@cache
def engine_called(name):
    return open_fake() if name == "fake" else shared_engine(name)


@pytest.fixture(params=ENGINES)
def engine(request):
    return engine_called(request.param)


@pytest.fixture
def prompts(engine):
    return [engine.writer.question(question, OPTIONS) for question in QUESTIONS]


def steer(engine, layer=1, multiplier=1.0, positions="after_prompt", seed=0):
    return Intervention(
        layer=layer,
        direction=direction(seed, size=engine.card.d_model),
        multiplier=multiplier,
        positions=positions,
    )


def mixed(engine):
    return [
        None,
        steer(engine),
        steer(engine, layer=2, multiplier=-2.0, positions="from_prompt_end"),
        steer(engine, layer=0, multiplier=0.5),
        steer(engine, multiplier=0.0),
        steer(engine, layer=3, seed=4),
    ]


def scores(engine, prompts, interventions):
    return engine.answer_logprobs(prompts, interventions).logprobs


def residuals(engine, prompts, layers):
    result = np.full((len(prompts), 2, len(layers), engine.card.d_model), np.nan, np.float32)
    for batch in engine.answer_residuals(prompts, layers):
        result[batch.rows] = batch.residuals
    return result


def test_it_is_an_engine(engine):
    assert isinstance(engine, Engine)
    assert engine.card.template == engine.writer.template


# -- identity -------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["after_prompt", "from_prompt_end"])
def test_multiplier_zero_changes_nothing_at_all(engine, prompts, positions):
    zero = steer(engine, multiplier=0.0, positions=positions)

    np.testing.assert_array_equal(scores(engine, prompts, [zero]), scores(engine, prompts, [None]))


def test_multiplier_zero_equals_none_in_any_company(engine, prompts):
    found = scores(engine, prompts, mixed(engine))

    np.testing.assert_array_equal(found[:, 0], found[:, 4])


def test_multiplier_zero_says_the_same_words(engine):
    asked = [engine.writer.open_ended("Why do you agree?")]
    zero = steer(engine, multiplier=0.0)

    alone = engine.generate(asked, [None], max_new_tokens=4).texts
    assert engine.generate(asked, [zero], max_new_tokens=4).texts == alone


def test_another_multiplier_does_change_the_answers(engine, prompts):
    pushed = [steer(engine, multiplier=multiplier) for multiplier in (-2.0, 2.0)]
    unsteered, down, up = scores(engine, prompts, [None, *pushed]).transpose(1, 0, 2)

    assert (np.abs(up - unsteered).max(axis=1) > 1e-3).all()
    assert (np.abs(up - down).max(axis=1) > 1e-3).all()


# -- nothing depends on the company that a row keeps ----------------------------------------


def test_a_batch_gives_what_single_prompts_give(engine, prompts):
    together = scores(engine, prompts, mixed(engine))
    alone = np.concatenate([scores(engine, [prompt], mixed(engine)) for prompt in prompts])

    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_interventions_together_give_what_each_gives_alone(engine, prompts):
    together = scores(engine, prompts, mixed(engine))
    alone = [scores(engine, prompts, [intervention]) for intervention in mixed(engine)]

    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), atol=1e-5)


def test_the_order_of_interventions_does_not_matter(engine, prompts):
    order = [3, 0, 5, 1, 4, 2]
    shuffled = [mixed(engine)[i] for i in order]

    np.testing.assert_array_equal(
        scores(engine, prompts, shuffled), scores(engine, prompts, mixed(engine))[:, order]
    )


def test_the_order_of_prompts_does_not_matter(engine, prompts):
    order = [4, 2, 0, 3, 1]

    np.testing.assert_allclose(
        scores(engine, [prompts[i] for i in order], mixed(engine)),
        scores(engine, prompts, mixed(engine))[order],
        atol=1e-5,
    )


def test_equal_interventions_give_equal_bytes(engine, prompts):
    half = Intervention(layer=1, direction=2 * steer(engine).direction, multiplier=0.5)
    found = scores(engine, prompts, [steer(engine), steer(engine), half])

    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_array_equal(found[:, 0], found[:, 2])


@pytest.mark.parametrize("engine", FAMILIES, indirect=True)
def test_swapping_the_letters_swaps_what_is_read(engine, prompts):
    """The fake engine goes by the order of the options, not by the letters' tokens."""
    swapped = [dataclasses.replace(p, letter_ids=p.letter_ids[::-1]) for p in prompts]

    np.testing.assert_array_equal(
        scores(engine, swapped, mixed(engine)), scores(engine, prompts, mixed(engine))[:, :, ::-1]
    )
    np.testing.assert_allclose(
        residuals(engine, swapped, [1, 2]), residuals(engine, prompts, [1, 2])[:, ::-1], atol=1e-5
    )


def test_continuations_do_not_depend_on_the_company(engine):
    asked = [engine.writer.open_ended(question) for question in ("Why?", "Do you agree?")]
    interventions = mixed(engine)[:3]
    together = engine.generate(asked, interventions, max_new_tokens=3).texts

    for prompt, texts in zip(asked, together, strict=True):
        for intervention, text in zip(interventions, texts, strict=True):
            alone = engine.generate([prompt], [intervention], max_new_tokens=3)
            assert alone.texts == ((text,),)


# -- what the numbers are -------------------------------------------------------------------


def test_scores_are_log_probabilities_out_of_the_whole_vocabulary(engine, prompts):
    """Pitfall 10: renormalised over the letters, the answer mass could not be seen."""
    mass = np.exp(scores(engine, prompts, mixed(engine)).astype(np.float64)).sum(axis=2)

    assert (mass > 0).all()
    assert (mass < 1).all()


def test_four_letters_can_be_offered(engine):
    asked = [engine.writer.question("Which?", ("a", "b", "right", "d"))]

    assert scores(engine, asked, [None, steer(engine)]).shape == (1, 2, 4)


def test_every_prompt_is_read_exactly_once(engine, prompts):
    rows = [row for batch in engine.answer_residuals(prompts, [2]) for row in batch.rows.tolist()]

    assert sorted(rows) == list(range(len(prompts)))


def test_layers_come_in_the_order_asked_for(engine, prompts):
    forth, back = residuals(engine, prompts, [0, 1, 3]), residuals(engine, prompts, [3, 1, 0])

    np.testing.assert_array_equal(forth, back[:, :, ::-1])
    np.testing.assert_allclose(forth[:, :, 1:2], residuals(engine, prompts, [1]), atol=1e-5)


def test_residuals_do_not_depend_on_the_batch(engine, prompts):
    alone = np.concatenate([residuals(engine, [prompt], [0, 3]) for prompt in prompts])

    np.testing.assert_allclose(residuals(engine, prompts, [0, 3]), alone, atol=1e-5)


def test_residuals_are_float32(engine, prompts):
    (first, *_) = engine.answer_residuals(prompts, [0])

    assert first.residuals.dtype == np.float32
    assert first.rows.dtype == np.int64


# -- receipts and progress ------------------------------------------------------------------


def test_the_receipt_counts_rows_and_positions(engine, prompts):
    receipt = engine.answer_logprobs(prompts, mixed(engine)).receipt

    # One answer token for each after_prompt, one more of the prompt for from_prompt_end.
    assert receipt.num_rows == 4 * len(prompts)
    assert receipt.num_positions == (1 + 2 + 1 + 1) * len(prompts)
    assert receipt.layers == (0, 1, 2, 3)


def test_equal_interventions_are_counted_as_often_as_they_are_asked_for(engine, prompts):
    receipt = engine.answer_logprobs(prompts, [steer(engine), None, steer(engine)]).receipt

    assert (receipt.num_rows, receipt.num_positions) == (2 * len(prompts), 2 * len(prompts))


def test_identities_get_no_delta(engine, prompts):
    receipt = engine.answer_logprobs(prompts, [None, steer(engine, multiplier=0.0)]).receipt

    assert (receipt.num_rows, receipt.num_positions, receipt.layers) == (0, 0, ())


def test_progress_adds_up_to_the_prompts(engine, prompts):
    seen = []

    engine.answer_logprobs(prompts, [None], progress=seen.append)
    engine.generate(prompts, [None], max_new_tokens=1, progress=seen.append)
    list(engine.answer_residuals(prompts, [0], progress=seen.append))
    assert sum(seen) == 3 * len(prompts)


def test_nothing_asked_is_nothing_answered(engine, prompts):
    assert scores(engine, prompts, []).shape[:2] == (len(prompts), 0)
    assert scores(engine, [], [None]).shape[:2] == (0, 1)
    assert engine.generate([], [None], max_new_tokens=1).texts == ()
    assert engine.generate(prompts[:1], [], max_new_tokens=1).texts == ((),)
    assert list(engine.answer_residuals([], [0])) == []


# -- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_outside_the_model_is_refused(engine, prompts, layer):
    said = rf"layer {layer} is outside the model(.|\n)*choose a layer from 0 to 3"

    with pytest.raises(EngineError, match=said):
        engine.answer_logprobs(prompts, [steer(engine, layer=layer)])
    with pytest.raises(EngineError, match=said):
        engine.generate(prompts, [steer(engine, layer=layer)], max_new_tokens=1)
    with pytest.raises(EngineError, match=said):
        list(engine.answer_residuals(prompts, [0, layer]))


def test_a_direction_of_the_wrong_size_is_refused(engine, prompts):
    size = engine.card.d_model
    wrong = Intervention(layer=0, direction=np.ones(size + 1, np.float32), multiplier=1.0)

    with pytest.raises(EngineError, match=rf"shape \({size + 1},\).*d_model {size}"):
        engine.answer_logprobs(prompts, [None, wrong])
    with pytest.raises(EngineError, match="use a vector that was computed from this model"):
        engine.generate(prompts, [wrong], max_new_tokens=1)


@pytest.mark.parametrize("multiplier", [np.nan, np.inf, 1e39])
def test_a_delta_that_is_no_number_is_refused(engine, prompts, multiplier):
    with pytest.raises(EngineError, match="NaN or infinite"):
        engine.answer_logprobs(prompts, [steer(engine, multiplier=multiplier)])


def test_prompts_of_another_writer_are_refused(engine):
    foreign = dataclasses.replace(
        engine.writer.question("Is it?", OPTIONS), ids=(10**7,), template="another"
    )

    with pytest.raises(EngineError, match="write prompts with this engine's own writer"):
        engine.answer_logprobs([foreign], [None])
