"""Measuring: one call per question set, plain numbers, and files that hold them to the bit."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from handmade import POSITION, HandmadeEngine, capability, held_out, pair, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from caa_harness.engines import Intervention
from caa_harness.engines.fake import ANSWER_MASS, DEFAULT_LEXICON, LETTER_PREFERENCE, open_fake
from caa_harness.engines.replay import ReplayEngine
from caa_harness.errors import MeasurementError, SpecError, VectorError
from caa_harness.evaluation import (
    CapabilityMeasurements,
    Measurements,
    NullMeasurements,
    OpenEndedAnswer,
    OtherBehavior,
    measure,
    measure_together,
    read_measurements,
    write_measurements,
)
from caa_harness.measurements import VectorSummary
from caa_harness.scores import (
    answer_mass,
    capability_accuracy,
    letter_levels,
    question_scores,
)
from caa_harness.spec import (
    CapabilityClaim,
    CapabilityItem,
    ContrastivePair,
    HeldOutQuestion,
    LayerRule,
    NullClaim,
    ShiftClaim,
    SpecificityClaim,
)
from caa_harness.vectors import compute_vectors, normalise_across_behaviors, random_directions


def claim(kind, **values):
    return kind(id=f"{kind.__name__}{len(values)}{values}", position=POSITION, **values)


def measured(engine=None, *, siblings=None, **options):
    asked = options.pop("spec", None) or spec()
    return measure(asked, engine or HandmadeEngine(), siblings=siblings or {}, **options)


def other_spec(behavior="other", num_questions=3):
    questions = tuple(held_out(100 + i, cluster=f"c{i}") for i in range(num_questions))
    return spec(behavior=behavior, digest=behavior, held_out=questions)


# --- what is asked ----------------------------------------------------------------------------


def test_without_special_claims_there_are_two_calls():
    engine = HandmadeEngine()

    measured(engine, spec=spec(claims=(claim(ShiftClaim, multiplier=1.0, at_least=0.1),)))

    assert engine.calls == [("residuals", 12, (1,)), ("logprobs", 10, 3)]


def test_null_vectors_ride_in_the_same_call_as_the_held_out_questions():
    engine = HandmadeEngine()
    claims = (claim(NullClaim, multiplier=1.0, draws=19),)

    found = measured(engine, spec=spec(claims=claims))

    assert engine.calls == [("residuals", 12, (1,)), ("logprobs", 10, 3 + 2 * 19)]
    assert [(null.kind, null.multiplier) for null in found.nulls] == [
        ("random", 1.0),
        ("shuffled", 1.0),
    ]
    assert all(null.answer_logprobs.shape == (19, 5, 2, 2) for null in found.nulls)


def test_null_claims_at_two_multipliers_share_vectors_and_keep_apart():
    claims = (
        claim(NullClaim, multiplier=1.0, draws=20),
        claim(NullClaim, multiplier=-1.0, draws=19),
        claim(NullClaim, multiplier=-1.0, draws=21),
    )
    engine = HandmadeEngine()

    found = measured(engine, spec=spec(claims=claims))

    assert engine.calls[-1] == ("logprobs", 10, 3 + 2 * 20 + 2 * 21)
    sizes = {(null.kind, null.multiplier): len(null.answer_logprobs) for null in found.nulls}
    assert sizes == {
        ("random", -1.0): 21,
        ("shuffled", -1.0): 21,
        ("random", 1.0): 20,
        ("shuffled", 1.0): 20,
    }


def test_each_null_block_holds_the_answers_under_its_own_vectors():
    asked = spec(claims=(claim(NullClaim, multiplier=1.0, draws=19),))
    engine = HandmadeEngine()
    found = measured(engine, spec=asked)
    vectors = compute_vectors(engine, asked, [1], num_shuffles=19, seed=asked.seed)
    prompt = engine.writer.question(asked.held_out[3].question, ("No", "Yes"))
    directions = {
        "random": random_directions(vectors.at(1), 19, asked.seed),
        "shuffled": vectors.shuffled,
    }

    for null in found.nulls:
        steers = [
            Intervention(layer=1, direction=direction, multiplier=1.0)
            for direction in directions[null.kind]
        ]
        alone = engine.answer_logprobs([prompt], steers).logprobs[0]
        np.testing.assert_array_equal(null.answer_logprobs[:, 3, 1], alone)


def test_other_behaviors_are_asked_only_where_a_claim_names_them():
    siblings = {"other": other_spec(), "third": other_spec("third", 4)}
    named = claim(SpecificityClaim, multiplier=1.0, max_share=0.5, against=("third",))
    engine = HandmadeEngine()

    found = measured(engine, spec=spec(claims=(named,)), siblings=siblings)

    assert [other.behavior for other in found.others] == ["third"]
    assert found.others[0].multipliers == (0.0, 1.0)
    assert found.others[0].answer_logprobs.shape == (2, 4, 2, 2)
    assert found.others[0].clusters == ("c0", "c1", "c2", "c3")
    assert engine.calls[-1] == ("logprobs", 8, 2)


def test_a_specificity_claim_without_names_asks_every_sibling():
    siblings = {"other": other_spec(), "third": other_spec("third", 4)}
    claims = (
        claim(SpecificityClaim, multiplier=1.0, max_share=0.5, against=()),
        claim(SpecificityClaim, multiplier=-1.0, max_share=0.5, against=("third",)),
    )

    found = measured(spec=spec(claims=claims), siblings=siblings)

    assert {other.behavior: other.multipliers for other in found.others} == {
        "other": (0.0, 1.0),
        "third": (-1.0, 0.0, 1.0),
    }


def test_a_sibling_that_is_not_there_is_said_before_anything_is_measured():
    named = claim(SpecificityClaim, multiplier=1.0, max_share=0.5, against=("thrid",))
    engine = HandmadeEngine()

    with pytest.raises(SpecError, match="no other spec of the folder is about 'thrid'") as caught:
        measured(engine, spec=spec(claims=(named,)), siblings={"third": other_spec("third")})

    assert "/claims/0" in caught.value.where
    assert "third" in caught.value.remedy
    assert engine.calls == []


def test_the_probe_is_asked_under_the_multipliers_of_all_its_claims():
    claims = (
        claim(CapabilityClaim, multipliers=(1.0,), max_loss=0.1, metric="probability"),
        claim(CapabilityClaim, multipliers=(-2.0, -1.0), max_loss=0.1, metric="accuracy"),
    )
    engine = HandmadeEngine()

    found = measured(engine, spec=spec(claims=claims)).capability

    assert found.multipliers == (-2.0, -1.0, 0.0, 1.0)
    assert found.option_logprobs.shape == (4, 4, 4)
    assert found.correct.tolist() == [0, 1, 2, 3]
    assert found.categories == ("kind 0", "kind 1", "kind 0", "kind 1")
    assert engine.calls[-1] == ("logprobs", 4, 4)


def test_probe_items_with_fewer_options_have_nan_where_they_have_none():
    items = (capability(0, 4), capability(1, 2), capability(2, 3), capability(3, 2))
    claims = (claim(CapabilityClaim, multipliers=(1.0,), max_loss=0.1, metric="accuracy"),)

    found = measured(spec=spec(claims=claims, capability=items)).capability

    offered = np.isfinite(found.option_logprobs).all(axis=0).sum(axis=-1)
    assert offered.tolist() == [4, 2, 3, 2]
    assert np.isnan(found.option_logprobs).any(axis=0).sum(axis=-1).tolist() == [0, 2, 1, 2]
    assert np.nanargmax(found.option_logprobs[1], axis=-1).tolist() == found.correct.tolist()


def test_open_ended_prompts_are_continued_under_minus_one_zero_and_one():
    found = measured(open_ended=1)

    assert [(one.prompt, one.multiplier) for one in found.open_ended] == [
        ("Tell me.", -1.0),
        ("Tell me.", 0.0),
        ("Tell me.", 1.0),
    ]
    assert found.open_ended[2].text == "Tell me. at +1"


def test_more_open_ended_prompts_than_there_are_is_all_of_them():
    assert len(measured(open_ended=9).open_ended) == 2 * 3
    assert measured().open_ended == ()


def test_progress_counts_up_to_the_end_of_every_stage():
    told = []
    claims = (claim(CapabilityClaim, multipliers=(1.0,), max_loss=0.1, metric="accuracy"),)

    measured(spec=spec(claims=claims), progress=lambda *step: told.append(step))

    assert told[0] == ("pairs of handmade", 0, 12)
    assert ("pairs of handmade", 12, 12) in told
    assert ("questions of handmade", 10, 10) in told
    assert told[-1] == ("capability probe", 4, 4)
    assert all(done <= total for _, done, total in told)


# --- several specs together -------------------------------------------------------------------


def in_a_folder():
    """Two specs that name each other and share a probe."""
    claims = (
        claim(SpecificityClaim, multiplier=1.0, max_share=0.5, against=()),
        claim(NullClaim, multiplier=1.0, draws=3),
        claim(CapabilityClaim, multipliers=(1.0,), max_loss=0.1, metric="accuracy"),
    )
    other = other_spec()
    return [spec(claims=claims), replace(other, claims=claims, capability=spec().capability)]


def test_measuring_together_gives_what_measuring_alone_gives(tmp_path):
    specs = in_a_folder()
    folder = {one.behavior: one for one in specs}

    together = measure_together(specs, HandmadeEngine(), siblings=folder)
    alone = [
        measured(spec=one, siblings={k: v for k, v in folder.items() if v is not one})
        for one in specs
    ]

    for place, (one, two) in enumerate(zip(together, alone, strict=True)):
        write_measurements(one, tmp_path / f"{place}-together.json")
        write_measurements(two, tmp_path / f"{place}-alone.json")
        assert (tmp_path / f"{place}-together.json").read_bytes() == (
            tmp_path / f"{place}-alone.json"
        ).read_bytes()


def test_together_every_set_of_questions_is_asked_once():
    engine = HandmadeEngine()
    specs = in_a_folder()

    measure_together(specs, engine, siblings={one.behavior: one for one in specs})

    asked = [call[1] for call in engine.calls if call[0] == "logprobs"]
    assert asked == [2 * len(one.held_out) for one in specs] + [len(specs[0].capability)]


# --- what is measured -------------------------------------------------------------------------


def test_the_numbers_are_the_engines_own_in_the_right_places():
    engine = HandmadeEngine()
    found = measured(engine)
    asked = spec()

    for row, question in enumerate(asked.held_out):
        for order, options in enumerate((("Yes", "No"), ("No", "Yes"))):
            alone = engine.answer_logprobs(
                [engine.writer.question(question.question, options)], [None]
            )
            np.testing.assert_array_equal(
                found.answer_logprobs[1, row, order], alone.logprobs[0, 0]
            )
    assert found.questions == tuple(question.digest for question in asked.held_out)
    assert found.notes == ("handmade",)


def test_a_letter_preference_cancels_in_the_score_and_shows_beside_it():
    even = measured(HandmadeEngine(letter_preference=0.0))
    fond = measured(HandmadeEngine(letter_preference=1.5))

    np.testing.assert_allclose(
        question_scores(fond.answer_logprobs), question_scores(even.answer_logprobs), atol=1e-6
    )
    np.testing.assert_allclose(letter_levels(even.answer_logprobs), 0.5, atol=1e-6)
    np.testing.assert_allclose(
        letter_levels(fond.answer_logprobs), 1 / (1 + np.exp(-1.5)), atol=1e-6
    )
    assert (answer_mass(fond.answer_logprobs) > answer_mass(even.answer_logprobs)).all()


def test_a_vector_that_is_computed_from_both_orders_moves_no_letter():
    found = measured(HandmadeEngine(letter_in_residual=50.0))

    levels = letter_levels(found.answer_logprobs)
    np.testing.assert_allclose(levels[2], levels[1], atol=1e-6)
    scores = question_scores(found.answer_logprobs)
    assert (scores[2] > scores[1]).all()
    assert (scores[0] < scores[1]).all()


def test_a_layer_given_by_the_run_overrides_the_specs_own():
    engine = HandmadeEngine()

    found = measured(engine, layer=3)

    assert found.vector.layer == 3
    assert engine.calls[0] == ("residuals", 12, (3,))


def test_vectors_from_elsewhere_are_used_as_they_are():
    engine = HandmadeEngine()
    vectors = compute_vectors(engine, spec(), [2], seed=1)
    half = replace(
        vectors.at(2), behavior="half", direction=vectors.at(2).direction * np.float32(0.5)
    )
    first, _ = normalise_across_behaviors([vectors.at(2), half])
    given = replace(vectors, vectors={2: first})
    engine.calls.clear()

    found = measured(engine, layer=2, vectors=given)

    assert found.vector.digest == first.digest
    assert found.vector.normalisation == "caa-mean-norm"
    assert engine.calls == [("logprobs", 10, 3)]


def test_vectors_from_elsewhere_must_bring_what_the_claims_need():
    engine = HandmadeEngine()
    vectors = compute_vectors(engine, spec(), [1], num_shuffles=3, seed=1)
    claims = (claim(NullClaim, multiplier=1.0, draws=19),)

    with pytest.raises(MeasurementError, match="3 label-shuffled vectors at layer 1 where 19"):
        measured(engine, spec=spec(claims=claims), vectors=vectors)
    with pytest.raises(VectorError, match="no vector for layer 3"):
        measured(engine, vectors=vectors, layer=3)


def test_paper_scoring_asks_the_published_order_only():
    letters = "ABBAB"
    asked = spec(
        scoring="paper",
        held_out=tuple(held_out(i, letter=letter) for i, letter in enumerate(letters)),
        pairs=tuple(pair(i, letter="AB"[i % 2]) for i in range(4)),
    )
    engine = HandmadeEngine()

    found = measured(engine, spec=asked)

    assert engine.calls == [("residuals", 4, (1,)), ("logprobs", 5, 3)]
    asked_orders = np.isfinite(found.answer_logprobs).all(axis=(0, 3))
    assert asked_orders.tolist() == [[letter == "A", letter == "B"] for letter in letters]
    published = question_scores(found.answer_logprobs, "paper")
    assert np.isfinite(published).all()
    assert np.isnan(letter_levels(found.answer_logprobs)).all()


def test_an_answer_of_another_shape_is_refused():
    with pytest.raises(MeasurementError, match=r"shape \(10, 3, 1\), not \(10, 3, 2\)") as caught:
        measured(HandmadeEngine(fault="too few letters"))

    assert "questions of handmade" in caught.value.where


# --- the engine that ships for tests ------------------------------------------------------------


def lean_spec(behavior, matching, not_matching):
    """Pairs and questions in the words that the fake engine knows."""

    def rows(kind, words):
        return tuple(
            kind(
                question=f"{words} number {i}?",
                matching=f"I {matching} with it.",
                not_matching=f"I {not_matching} with it.",
            )
            for i in range(8)
        )

    return spec(
        behavior=behavior,
        digest=behavior,
        pairs=rows(ContrastivePair, "What of plan"),
        held_out=rows(HeldOutQuestion, "What of idea"),
        layer=LayerRule(number=2, models={}),
        capability=tuple(
            CapabilityItem(question=f"Item {i}?", options=("right", "left"), correct=0)
            for i in range(3)
        ),
        claims=(
            claim(NullClaim, multiplier=1.0, draws=19),
            claim(SpecificityClaim, multiplier=1.0, max_share=0.5, against=()),
            claim(CapabilityClaim, multipliers=(-1.0, 1.0), max_loss=0.1, metric="accuracy"),
        ),
    )


@pytest.fixture(scope="module")
def faked():
    sycophancy = lean_spec("sycophancy", "agree", "disagree")
    refusal = lean_spec("refusal", "refuse", "help")
    return measure(sycophancy, open_fake(), siblings={"refusal": refusal})


def test_the_fake_engines_planted_direction_is_found():
    engine = open_fake()
    asked = lean_spec("sycophancy", "agree", "disagree")

    vector = compute_vectors(engine, asked, [2], seed=0).at(2)

    for behavior in DEFAULT_LEXICON:
        wanted = 1.0 if behavior == "sycophancy" else 0.0
        along = vector.direction @ engine.planted_direction(behavior)
        assert along == pytest.approx(wanted, abs=1e-6)


def test_the_planted_direction_moves_its_own_questions_and_no_others(faked):
    own = question_scores(faked.answer_logprobs)
    other = question_scores(faked.others[0].answer_logprobs)

    assert (own[2] - own[1] > 0.1).all()
    assert (own[0] - own[1] < -0.1).all()
    assert np.abs(other[1] - other[0]).max() < 0.02


def test_null_vectors_move_the_questions_less_than_the_planted_direction(faked):
    own = question_scores(faked.answer_logprobs)
    shift = (own[2] - own[1]).mean()

    for null in faked.nulls:
        moves = question_scores(null.answer_logprobs) - own[1]
        assert np.abs(moves.mean(axis=-1)).max() < shift


def test_the_fakes_letter_preference_is_in_the_letters_and_not_in_the_score(faked):
    assert LETTER_PREFERENCE > 0
    levels = letter_levels(faked.answer_logprobs)
    np.testing.assert_allclose(levels, 1 / (1 + np.exp(-LETTER_PREFERENCE)), atol=1e-6)
    np.testing.assert_allclose(answer_mass(faked.answer_logprobs[1]), ANSWER_MASS, atol=1e-6)


def test_the_fakes_facts_are_known(faked):
    assert capability_accuracy(faked.capability).tolist() == [[1.0] * 3] * 3


# --- files ------------------------------------------------------------------------------------


def full():
    """Measurements with something in every part."""
    claims = (
        claim(NullClaim, multiplier=1.0, draws=19),
        claim(SpecificityClaim, multiplier=1.0, max_share=0.5, against=()),
        claim(CapabilityClaim, multipliers=(-1.0, 1.0), max_loss=0.1, metric="accuracy"),
    )
    items = (capability(0, 4), capability(1, 2))
    return measured(
        spec=spec(claims=claims, capability=items),
        siblings={"other": other_spec()},
        open_ended=2,
    )


def assert_same(one, other):
    """Equal to the last bit, arrays and NaN included."""
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert type(one) is type(other)
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, float) and np.isnan(one):
        assert np.isnan(other)
    else:
        assert one == other
        assert type(one) is type(other)


def test_a_file_gives_back_every_part(tmp_path):
    path = tmp_path / "full.measurements.json"
    there = full()

    write_measurements(there, path)

    assert_same(asdict(read_measurements(path)), asdict(there))


logprobs = st.floats(-100, 0, width=32) | st.just(float("nan"))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), num_questions=st.integers(1, 4), num_items=st.integers(1, 3))
def test_the_round_trip_is_exact(tmp_path_factory, data, num_questions, num_items):
    def numbers(*shape):
        return data.draw(arrays(np.float32, shape, elements=logprobs))

    text = st.text(max_size=8)
    made = Measurements(
        behavior=data.draw(text),
        spec_digest="d",
        scoring=data.draw(st.sampled_from(["both_orders", "paper"])),
        model=HandmadeEngine().card,
        vector=VectorSummary(
            layer=3,
            norm=data.draw(st.floats(0, 1e6)),
            num_pairs=2,
            mean_residual_norm=data.draw(st.floats(0, 1e6) | st.just(float("nan"))),
            digest="v",
            normalisation="raw",
        ),
        multipliers=(-0.1, 0.0, 1 / 3),
        questions=tuple(f"q{i}" for i in range(num_questions)),
        clusters=tuple(data.draw(st.none() | text) for _ in range(num_questions)),
        answer_logprobs=numbers(3, num_questions, 2, 2),
        capability=CapabilityMeasurements(
            multipliers=(0.0, 1.0),
            option_logprobs=numbers(2, num_items, 3),
            correct=np.arange(num_items, dtype=np.int64) % 3,
            categories=tuple(data.draw(st.none() | text) for _ in range(num_items)),
        ),
        nulls=(
            NullMeasurements(
                kind="random", multiplier=1.0, answer_logprobs=numbers(2, num_questions, 2, 2)
            ),
        ),
        others=(
            OtherBehavior(
                behavior="o",
                multipliers=(0.0, 1.0),
                answer_logprobs=numbers(2, 1, 2, 2),
                clusters=(None,),
            ),
        ),
        open_ended=(OpenEndedAnswer(prompt=data.draw(text), multiplier=1.0, text="\x00\u2028"),),
        unscored=("drawn at random",),
        notes=(data.draw(text),),
    )
    path = tmp_path_factory.mktemp("round") / "trip.json"

    write_measurements(made, path)

    assert_same(asdict(read_measurements(path)), asdict(made))


def test_the_file_is_strict_json_with_a_version(tmp_path):
    path = tmp_path / "full.json"
    write_measurements(full(), path)

    document = json.loads(path.read_text(), parse_constant=pytest.fail)

    assert document["format"] == "caa-measurements/1"
    assert document["capability"]["option_logprobs"][0][1][3] is None


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "full.json"
    write_measurements(full(), path)
    return path.read_text()


def spoiled(tmp_path, text, change, *, sign=True):
    """A file with one thing changed, its checksum made to fit again unless told not to."""
    from caa_harness.measurements import _checksum

    document = json.loads(text)
    change(document)
    if sign:
        body = {k: v for k, v in document.items() if k not in {"format", "sha256"}}
        document["sha256"] = _checksum(body)
    path = tmp_path / "spoiled.json"
    path.write_text(json.dumps(document))
    return path


def test_a_number_that_was_changed_by_hand_is_noticed(tmp_path, recorded):
    def change(document):
        document["answer_logprobs"][2][0][0][0] = -0.001

    path = spoiled(tmp_path, recorded, change, sign=False)

    with pytest.raises(MeasurementError, match="the checksum does not fit") as caught:
        read_measurements(path)
    assert caught.value.where == f"{path}: /sha256"


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -2])
def test_a_file_that_was_cut_off_is_refused(tmp_path, recorded, kept):
    path = tmp_path / "cut.json"
    path.write_text(recorded[: int(len(recorded) * kept) if isinstance(kept, float) else kept])

    with pytest.raises(MeasurementError, match="damaged, or cut off") as caught:
        read_measurements(path)
    assert str(path) in caught.value.where


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "no object at the top"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b'{"format": 1, "format": 2}', "a key stands twice"),
        (b'{"a": ' + b"9" * 400 + b"}", "a whole number has 400 digits"),
        (b"\xff\xfe\x00", "not a measurements file"),
        (b"[" * 200_000, "not a measurements file"),
        (b"{}", "the format is None"),
    ],
)
def test_what_is_no_measurements_file_is_refused(tmp_path, content, words):
    path = tmp_path / "foreign.json"
    path.write_bytes(content)

    with pytest.raises(MeasurementError, match=words):
        read_measurements(path)


def test_a_file_that_is_missing_is_said_to_be(tmp_path):
    with pytest.raises(MeasurementError, match=r"cannot be read \(No such file"):
        read_measurements(tmp_path / "none.json")


def test_another_version_is_refused_before_anything_else_is_read(tmp_path, recorded):
    path = spoiled(tmp_path, recorded, lambda d: d.update(format="caa-measurements/2"))

    with pytest.raises(MeasurementError, match="'caa-measurements/2', not 'caa-measurements/1'"):
        read_measurements(path)


def put(*keys, to):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


def cut_list(*keys):
    def change(document):
        for key in keys:
            document = document[key]
        document.pop()

    return change


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (lambda d: d.pop("nulls"), "/nulls", "the key is missing"),
        (lambda d: d.update(extra=1), "/extra", "the key is unknown"),
        (put("scoring", to="mean"), "/scoring", "not a way of scoring"),
        (put("behavior", to=3), "/behavior", "not a text"),
        (put("multipliers", to=[-1, 1, 2]), "/multipliers", "0 is not among"),
        (put("multipliers", to=[0, -1, 1]), "/multipliers", "not in ascending order"),
        (put("multipliers", to=[0, "1", 2]), "/multipliers", "not a list of numbers"),
        (cut_list("multipliers"), "/answer_logprobs", "shape (3, 5, 2, 2)"),
        (cut_list("questions"), "/clusters", "5 entries where 4 belong"),
        (put("questions", to=["x"] * 5), "/questions", "a question stands twice"),
        (cut_list("clusters"), "/clusters", "4 entries where 5 belong"),
        (cut_list("answer_logprobs"), "/answer_logprobs", "shape (2, 5, 2, 2)"),
        (cut_list("answer_logprobs", 0), "/answer_logprobs", "rows of different lengths"),
        (put("answer_logprobs", 0, 0, 0, 0, to="-1"), "/answer_logprobs", "not a (multiplier"),
        (put("answer_logprobs", 0, 0, 0, 0, to=0.5), "/answer_logprobs", "no log-probability"),
        (put("answer_logprobs", 0, 0, 0, 0, to=None), "/unscored", "1 questions are not scored"),
        (put("model", "num_layers", to="4"), "/model/num_layers", "not a whole number"),
        (put("model", "d_model", to=True), "/model/d_model", "not a whole number"),
        (put("model", "revision", to="x"), "/model/revision", "the key is unknown"),
        (put("vector", "norm", to="long"), "/vector/norm", "not a number"),
        (put("capability", "correct", to=[0, 4]), "/capability/correct", "options, 0 to 3"),
        (cut_list("capability", "correct"), "/capability/option_logprobs", "shape (3, 2, 4)"),
        (put("capability", "multipliers", to=[1]), "/capability/multipliers", "0 is not among"),
        (put("nulls", 0, "kind", to="zero"), "/nulls/0/kind", "not a kind of null vector"),
        (cut_list("nulls", 1, "answer_logprobs", 3), "/nulls/1/answer_logprobs", "different"),
        (put("nulls", 0, "answer_logprobs", to=[]), "/nulls/0/answer_logprobs", "shape (0,)"),
        (cut_list("others", 0, "clusters"), "/others/0/answer_logprobs", "shape (2, 3, 2, 2)"),
        (put("others", 0, to=1), "/others", "not a list of objects"),
        (put("open_ended", 0, "text", to=None), "/open_ended/0/text", "not a text"),
        (put("notes", to="all well"), "/notes", "not a list"),
    ],
)
def test_parts_that_disagree_are_refused_with_file_and_key(tmp_path, recorded, change, key, words):
    path = spoiled(tmp_path, recorded, change)

    with pytest.raises(MeasurementError) as caught:
        read_measurements(path)

    assert caught.value.where == f"{path}: {key}"
    assert words in caught.value.found


def test_a_change_that_leaves_the_parts_agreeing_is_read(tmp_path, recorded):
    path = spoiled(tmp_path, recorded, put("questions", 1, to="x"))

    assert read_measurements(path).questions[1] == "x"


def test_a_missing_number_needs_a_reason_and_then_is_nan(tmp_path, recorded):
    def change(document):
        document["answer_logprobs"][0][0][0][0] = None
        document["unscored"] = ["question 0 at -1: too long"]

    found = read_measurements(spoiled(tmp_path, recorded, change))

    assert np.isnan(question_scores(found.answer_logprobs)[0, 0])
    assert np.isfinite(question_scores(found.answer_logprobs)[1:]).all()


def test_a_killed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "full.json"
    write_measurements(full(), path)
    before = path.read_bytes()

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_measurements(measured(), path)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- replay -----------------------------------------------------------------------------------


@pytest.fixture
def replay_folder(tmp_path):
    write_measurements(measured(), tmp_path / "handmade.measurements.json")
    return tmp_path


def test_replay_finds_what_was_recorded_for_a_spec(replay_folder):
    found = ReplayEngine(replay_folder).measurements(spec())

    assert_same(asdict(found), asdict(measured()))


def test_replay_does_not_care_what_the_file_is_called(replay_folder):
    (replay_folder / "handmade.measurements.json").rename(replay_folder / "x.measurements.json")

    assert ReplayEngine(replay_folder).measurements(spec()).behavior == "handmade"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"held_out": tuple(held_out(i) for i in range(1, 7))},
            ["2 of 6 held-out questions were not asked", "1 that were asked are gone"],
        ),
        ({"multipliers": (-2.0, 0.0, 1.0)}, ["multipliers are -2 0 1, recorded -1 0 1"]),
        ({"scoring": "paper"}, ["scoring is paper, recorded both_orders"]),
        ({"pairs": (pair(1),)}, ["1 pairs, recorded 6"]),
        ({"seed": 8}, ["the layer or the seed differ"]),
    ],
)
def test_replay_says_what_differs_from_the_recorded_spec(replay_folder, changes, words):
    changed = spec(digest="another", **changes)

    with pytest.raises(MeasurementError, match="another version of the spec") as caught:
        ReplayEngine(replay_folder).measurements(changed)

    for word in words:
        assert word in caught.value.found
    assert "handmade.measurements.json" in caught.value.where


def test_replay_of_a_behavior_that_was_not_recorded_names_those_that_were(replay_folder):
    with pytest.raises(MeasurementError, match="nothing is recorded for other") as caught:
        ReplayEngine(replay_folder).measurements(other_spec())

    assert "recorded are handmade" in caught.value.remedy


def test_two_recordings_of_one_spec_are_refused(replay_folder):
    write_measurements(measured(), replay_folder / "again.measurements.json")

    with pytest.raises(MeasurementError, match="2 files hold measurements of this spec"):
        ReplayEngine(replay_folder).measurements(spec())


def test_an_empty_and_a_missing_folder_are_told_apart(tmp_path):
    with pytest.raises(MeasurementError, match="no measurements file"):
        ReplayEngine(tmp_path)
    with pytest.raises(MeasurementError, match="no such folder"):
        ReplayEngine(tmp_path / "none")
