"""Steering vectors: the laws of the mean difference, and files that cannot lie."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import handmade
import numpy as np
import pytest
from handmade import D_MODEL, LETTER, STANCE, HandmadeEngine, pair, spec, strength
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from caa_harness.engines import ResidualBatch
from caa_harness.errors import VectorError
from caa_harness.vectors import (
    VectorSet,
    compute_vectors,
    load_vectors,
    normalise_across_behaviors,
    paper_order,
    random_directions,
    save_vectors,
)

LAYERS = (0, 2, 3)


def vectors_of(pairs, *, engine=None, layers=LAYERS, **options):
    return compute_vectors(
        engine or HandmadeEngine(), spec(pairs=tuple(pairs)), layers, seed=1, **options
    )


def mean_strength(pairs):
    return np.mean([strength(one.question) for one in pairs])


# --- what a vector is -----------------------------------------------------------------------


def test_the_vector_is_the_mean_of_matching_minus_not_matching_at_each_layer():
    pairs = [pair(i) for i in range(7)]

    found = vectors_of(pairs)

    for layer in LAYERS:
        wanted = 2 * (layer + 1) * mean_strength(pairs) * STANCE
        np.testing.assert_allclose(found.at(layer).direction, wanted, rtol=1e-7)
        assert found.at(layer).direction.dtype == np.float32


def test_asking_both_orders_cancels_the_letters_own_direction_exactly():
    pairs = [pair(i) for i in range(7)]
    liked = HandmadeEngine(letter_in_residual=100.0)

    found = vectors_of(pairs, engine=liked)

    assert found.at(2).direction @ LETTER == 0.0


def test_one_order_as_published_keeps_the_letter_in_proportion_to_its_imbalance():
    pairs = [pair(i, letter=letter) for i, letter in enumerate("AAAB")]

    found = vectors_of(pairs, orders="paper")

    # Three of four pairs have A - B, one has B - A, each 2 x 2.0 long.
    assert found.at(2).direction @ LETTER == pytest.approx((3 - 1) / 4 * 4.0)
    assert found.at(2).provenance["letter_balance"] == "0.75"
    assert found.at(2).orders == "paper"


def test_one_order_asks_the_published_words_and_half_as_many_prompts():
    pairs = [pair(i, letter="B") for i in range(3)]
    engine = HandmadeEngine()

    vectors_of(pairs, engine=engine, orders="paper")

    assert engine.calls == [("residuals", 3, LAYERS)]


def test_without_a_published_order_a_hash_picks_one_and_uses_both_letters():
    picked = [paper_order(pair(i)) for i in range(64)]

    assert picked == [paper_order(pair(i)) for i in range(64)]
    assert 16 < sum(picked) < 48


def test_the_norm_of_the_residuals_is_what_the_vector_is_measured_against():
    engine = HandmadeEngine(batch_size=100)
    pairs = [pair(i) for i in range(3)]
    writer = engine.writer
    prompts = [writer.question(one.question, ("Yes", "No")) for one in pairs]
    prompts += [writer.question(one.question, ("No", "Yes")) for one in pairs]
    (batch,) = engine.answer_residuals(prompts, [2])

    found = vectors_of(pairs, layers=[2]).at(2)

    wanted = np.linalg.norm(batch.residuals.astype(np.float64), axis=-1).mean()
    assert found.mean_residual_norm == pytest.approx(wanted, rel=1e-12)


# --- laws -----------------------------------------------------------------------------------


def test_swapping_the_halves_negates_the_vector():
    there = vectors_of([pair(i) for i in range(5)])
    back = vectors_of([pair(i, swapped=True) for i in range(5)])

    for layer in LAYERS:
        np.testing.assert_array_equal(there.at(layer).direction, -back.at(layer).direction)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)), batch_size=st.integers(1, 20), backwards=st.booleans())
def test_neither_the_order_of_pairs_nor_the_batches_show(order, batch_size, backwards):
    engine = HandmadeEngine(batch_size=batch_size, backwards=backwards)

    found = vectors_of([pair(i) for i in order], engine=engine)

    wanted = vectors_of([pair(i) for i in range(6)])
    for layer in LAYERS:
        np.testing.assert_array_equal(found.at(layer).direction, wanted.at(layer).direction)


def test_a_set_given_twice_has_the_same_vector():
    pairs = [pair(i) for i in range(5)]

    once, twice = vectors_of(pairs), vectors_of([*pairs, *pairs])

    np.testing.assert_array_equal(once.at(3).direction, twice.at(3).direction)


def test_sums_are_kept_in_float64():
    # A float32 sum of a few thousand of these loses their last digit, and so does its mean.
    step = np.float32(1 + 2**-14)

    class Even(HandmadeEngine):
        def answer_residuals(self, prompts, layers, *, progress=None):
            for row in range(len(prompts)):
                residuals = np.zeros((1, 2, len(layers), D_MODEL), np.float32)
                residuals[0, row % 2] = step  # rows alternate: (A) matches, (B) matches
                yield ResidualBatch(rows=np.array([row]), residuals=residuals)

    pairs = [pair(i) for i in range(2048)]
    lossy = np.cumsum(np.full(2 * len(pairs), step), dtype=np.float32)[-1] / np.float32(4096)
    assert lossy != step

    found = vectors_of(pairs, engine=Even(), layers=[0]).at(0)

    np.testing.assert_array_equal(found.direction, np.full(D_MODEL, step))


# --- memory ---------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_number_of_pairs():
    d_model, num_layers = 1024, 8

    class Wide(HandmadeEngine):
        @property
        def card(self):
            return replace(super().card, d_model=d_model, num_layers=num_layers)

        def answer_residuals(self, prompts, layers, *, progress=None):
            for row in range(len(prompts)):
                residuals = np.ones((1, 2, len(layers), d_model), np.float32)
                residuals[0, row % 2] *= 2
                yield ResidualBatch(rows=np.array([row]), residuals=residuals)

    def peak(num_pairs):
        pairs = [pair(i) for i in range(num_pairs)]
        tracemalloc.start()
        vectors_of(pairs, engine=Wide(), layers=range(num_layers))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    one_row = 2 * num_layers * d_model * 4
    few, many = peak(20), peak(200)

    # 360 more prompts: their texts may stay, their residuals (64 KiB each) may not.
    assert many - few < 20 * one_row
    assert 360 * one_row > 10 * (many - few)


def test_residuals_are_not_asked_for_twice():
    engine = HandmadeEngine()

    vectors_of([pair(i) for i in range(4)], engine=engine, layers=[1], num_shuffles=5)

    assert engine.calls == [("residuals", 8, (1,))]


# --- null vectors ---------------------------------------------------------------------------


def test_shuffled_vectors_flip_both_orders_of_a_pair_together():
    pairs = [pair(i) for i in range(6)]

    found = vectors_of(pairs, layers=[2], num_shuffles=40)

    assert found.shuffled.shape == (40, D_MODEL)
    assert found.shuffled_layer == 2
    # Each is a signed mean of the pairs' own differences: no letter part, one number along STANCE.
    np.testing.assert_array_equal(found.shuffled @ LETTER, np.zeros(40))
    steps = np.array([strength(one.question) for one in pairs]) * 2 * 3 / 6
    reachable = {
        round(float(np.dot(signs, steps)), 4)
        for signs in np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    }
    assert {round(float(value), 4) for value in found.shuffled @ STANCE} <= reachable
    assert len(np.unique((found.shuffled @ STANCE).round(4))) > 3


def test_the_seed_moves_the_shuffles_and_nothing_else():
    def made(seed):
        return compute_vectors(HandmadeEngine(), spec(), [1], num_shuffles=10, seed=seed)

    one, again, other = made(1), made(1), made(2)

    np.testing.assert_array_equal(one.shuffled, again.shuffled)
    assert not np.array_equal(one.shuffled, other.shuffled)
    np.testing.assert_array_equal(one.at(1).direction, other.at(1).direction)


def test_shuffles_are_made_at_the_layer_asked_for():
    at_three = vectors_of([pair(i) for i in range(4)], num_shuffles=3, shuffled_layer=3)
    alone = vectors_of([pair(i) for i in range(4)], layers=[3], num_shuffles=3)

    np.testing.assert_array_equal(at_three.shuffled, alone.shuffled)


def test_random_directions_are_as_long_as_the_vector_and_point_anywhere():
    like = vectors_of([pair(i) for i in range(4)]).at(2)

    drawn = random_directions(like, 400, seed=3)

    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), like.norm, rtol=1e-6)
    assert np.abs(drawn.mean(axis=0)).max() < like.norm * 0.1
    np.testing.assert_array_equal(drawn, random_directions(like, 400, seed=3))
    assert not np.array_equal(drawn, random_directions(like, 400, seed=4))


# --- normalising ----------------------------------------------------------------------------


def three_behaviors(layer=2):
    raw = vectors_of([pair(i) for i in range(4)]).at(layer)
    return [
        replace(raw, behavior=name, direction=raw.direction * np.float32(factor))
        for name, factor in (("a", 1.0), ("b", 0.25), ("c", 4.0))
    ]


def test_normalised_vectors_have_the_mean_of_the_norms_and_their_own_direction():
    raw = three_behaviors()

    normalised = normalise_across_behaviors(raw)

    mean = np.mean([one.norm for one in raw])
    for before, after in zip(raw, normalised, strict=True):
        assert after.norm == pytest.approx(mean, rel=1e-6)
        assert after.normalisation == "caa-mean-norm"
        cosine = before.direction @ after.direction / before.norm / after.norm
        assert cosine == pytest.approx(1.0, rel=1e-6)


def test_layers_keep_different_norms():
    at_two, at_three = normalise_across_behaviors(
        [*three_behaviors(2), *(replace(v, layer=3) for v in three_behaviors(3))]
    )[::3]

    assert at_three.norm == pytest.approx(at_two.norm * 4 / 3, rel=1e-6)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda v: [v[0], v[0]], "two vectors of one behaviour"),
        (lambda v: [v[0], replace(v[1], normalisation="caa-mean-norm")], "normalised already"),
        (
            lambda v: [v[0], replace(v[1], provenance={**v[1].provenance, "weights_digest": "x"})],
            "different models",
        ),
    ],
)
def test_what_must_not_be_normalised_together_is_refused(spoil, words):
    with pytest.raises(VectorError, match=words):
        normalise_across_behaviors(spoil(three_behaviors()))


# --- engines that do not keep the door's promises ---------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("leaves one out", "1 of 12 pair prompts not once but 0 times, pair 0"),
        ("answers one twice", "not once but 2 times"),
        ("wrong shape", "answered with shape"),
        ("not finite", "not finite"),
    ],
)
def test_a_faulty_engine_makes_no_vector(fault, words):
    with pytest.raises(VectorError, match=words):
        vectors_of([pair(i) for i in range(6)], engine=HandmadeEngine(fault=fault))


def test_a_vector_of_exact_zeros_is_refused():
    class Deaf(HandmadeEngine):
        def _residuals(self, prompt, layers):
            return np.ones((2, len(layers), D_MODEL))

    with pytest.raises(VectorError, match="the vector is zero") as caught:
        vectors_of([pair(0)], engine=Deaf())

    assert "layer 0" in caught.value.where


def test_a_layer_that_was_not_computed_is_refused():
    with pytest.raises(VectorError, match="no vector for layer 1") as caught:
        vectors_of([pair(0)]).at(1)

    assert "[0, 2, 3]" in caught.value.remedy


# --- files ----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "handmade.safetensors"
    save_vectors(vectors_of([pair(i) for i in range(4)]), path)
    return path


def test_a_file_gives_back_every_bit_and_every_word(saved):
    wanted = vectors_of([pair(i) for i in range(4)])

    found = load_vectors(saved)

    assert list(found.vectors) == list(LAYERS)
    for layer in LAYERS:
        np.testing.assert_array_equal(found.at(layer).direction, wanted.at(layer).direction)
        assert found.at(layer).digest == wanted.at(layer).digest
        for key in ("behavior", "layer", "num_pairs", "mean_residual_norm", "normalisation"):
            assert getattr(found.at(layer), key) == getattr(wanted.at(layer), key)
        assert found.at(layer).orders == "both"
        assert dict(found.at(layer).provenance) == dict(wanted.at(layer).provenance)


def test_a_file_says_which_model_data_and_rules_it_comes_from(saved):
    said = load_vectors(saved).at(0).provenance

    assert said["model"] == "handmade/model"
    assert said["spec_digest"] == "handmade"
    assert said["site"] == "block_output"
    assert said["layer_numbering"] == "from 0"
    assert said["token_rule"] == "answer letter"
    assert said["letter_balance"] == "0.5"
    assert said["template"] == "handmade"
    assert json.loads(said["packages"]) == {"numpy": np.__version__}


def test_digests_tell_layers_and_directions_apart():
    found = vectors_of([pair(i) for i in range(4)])
    moved = replace(found.at(2), layer=3)

    assert len({found.at(2).digest, found.at(3).digest, moved.digest}) == 3


def rewritten(path, change_metadata=None, change_tensors=None):
    """Write the file again with something changed."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stream:
        metadata = dict(stream.metadata())
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    (change_metadata or (lambda m: None))(metadata)
    (change_tensors or (lambda t: None))(tensors)
    path.write_bytes(save(tensors, metadata=metadata))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format="repeng"), "its format is 'repeng'"),
        (lambda m: m.pop("format"), "its format is None"),
        (lambda m: m.pop("spec_digest"), "the metadata lack spec_digest"),
        (lambda m: m.pop("mean_residual_norm.2"), "lack mean_residual_norm.2"),
        (lambda m: m.update(strength="9"), "unknown strength"),
        (lambda m: m.update(site="block_input"), "site is 'block_input', not block_output"),
        (lambda m: m.update(layer_numbering="from 1"), "layer_numbering is 'from 1'"),
        (lambda m: m.update(token_rule="last"), "token_rule is 'last'"),
        (lambda m: m.update(normalisation="unit"), "normalisation is 'unit', not raw or"),
        (lambda m: m.update(orders="one"), "orders is 'one'"),
        (lambda m: m.update(num_pairs="0"), "num_pairs is '0', not a positive"),
        (lambda m: m.update(num_pairs="four"), "num_pairs is 'four'"),
        (lambda m: m.update(num_layers="3"), "layer 3 is outside the model of 3 layers"),
        (lambda m: m.update(d_model="9"), "shape \\(8,\\), not \\(9,\\)"),
        (lambda m: m.update({"mean_residual_norm.0": "nan"}), "'nan', not a length"),
        (lambda m: m.update({"mean_residual_norm.0": "-1"}), "'-1', not a length"),
    ],
)
def test_odd_metadata_are_refused(saved, change, words):
    rewritten(saved, change_metadata=change)

    with pytest.raises(VectorError, match=words) as caught:
        load_vectors(saved)

    assert str(saved) in caught.value.where


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update({"layer.0": t["layer.0"].astype(np.float64)}), "float64 numbers"),
        (lambda t: t.update({"layer.0": t["layer.0"][:-1]}), "shape \\(7,\\)"),
        (lambda t: t.update({"layer.0": t["layer.0"] * np.float32(np.nan)}), "not finite"),
        (lambda t: t.update({"direction.0": t.pop("layer.0")}), "called 'direction.0'"),
        (lambda t: t.update({"layer.00": t.pop("layer.0")}), "called 'layer.00'"),
        (lambda t: t.update({"layer.-1": t.pop("layer.0")}), "called 'layer.-1'"),
        (lambda t: t.clear(), "unknown mean_residual_norm.0"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(saved, change, words):
    rewritten(saved, change_tensors=change)

    with pytest.raises(VectorError, match=words):
        load_vectors(saved)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b"PK\x03\x04 a torch pickle"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
    ids=["cut off", "foreign", "empty", "missing"],
)
def test_what_is_no_vector_file_is_refused(saved, spoil):
    spoil(saved)

    with pytest.raises(VectorError, match="not a readable safetensors file"):
        load_vectors(saved)


def test_saving_leaves_nothing_beside_the_file(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["handmade.safetensors"]


def test_a_file_that_cannot_be_replaced_is_left_as_it_was(saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_vectors(vectors_of([pair(0)]), saved)

    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["handmade.safetensors"]


def test_a_loaded_set_steers_as_the_computed_one(saved):
    found = load_vectors(saved)

    assert isinstance(found, VectorSet)
    assert found.shuffled.shape == (0, D_MODEL)
    assert found.shuffled_layer is None
    assert int(found.at(0).provenance["num_layers"]) == handmade.NUM_LAYERS
