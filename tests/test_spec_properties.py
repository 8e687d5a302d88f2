from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caa_harness.spec import HeldOutQuestion, SpecErrors, load_spec, spec_json
from caa_harness.spec.rules import claim_id

SPECS = Path(__file__).parent / "specs" / "good"
GOOD = json.loads((SPECS / "sycophancy.behavior.json").read_text(encoding="utf-8"))
TEXT = json.dumps(GOOD, indent=1)
PLACE = re.compile(r"[^\n]*\.jsonl?:[1-9]\d*:[1-9]\d*: /")

few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
many = settings(few, max_examples=120)
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12
).filter(str.strip)  # fmt: skip


def load_text(folder, text):
    path = folder / "sycophancy.behavior.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_spec(path)


@st.composite
def rows(draw, prefix, **extra):
    """Rows whose questions differ from each other and from those of other prefixes."""
    count = draw(st.integers(1, 4))
    found = []
    for index in range(count):
        row = {
            "question": f"{prefix}{index} {draw(texts)}",
            "matching": f"yes {draw(texts)}",
            "not_matching": f"no {draw(texts)}",
        }
        row |= {key: value for key in extra if (value := draw(st.none() | extra[key])) is not None}
        found.append(row)
    return found


@st.composite
def claims(draw, multipliers):
    steering = [value for value in multipliers if value]
    one = st.sampled_from(steering)
    some = st.lists(st.sampled_from(multipliers), min_size=1, unique=True)
    share = st.floats(0.01, 0.99)
    made = draw(
        st.lists(
            st.one_of(
                st.fixed_dictionaries({"type": st.just("shift"), "multiplier": one,
                                       "at_least": st.floats(-1, 1)}),
                st.fixed_dictionaries({"type": st.just("level"), "at_most": share,
                                       "multiplier": st.sampled_from(multipliers)}),
                st.fixed_dictionaries({"type": st.just("capability"), "max_loss": share},
                                      optional={"metric": st.just("accuracy")}),
                st.fixed_dictionaries({"type": st.just("answer_mass"), "at_least": share},
                                      optional={"multipliers": some}),
                st.fixed_dictionaries({"type": st.just("letter_part"), "multiplier": one,
                                       "at_most": share}),
                st.fixed_dictionaries({"type": st.just("null"), "multiplier": one},
                                      optional={"draws": st.integers(19, 99)}),
                st.fixed_dictionaries({"type": st.just("specificity"), "multiplier": one,
                                       "max_share": share},
                                      optional={"against": st.just(["refusal"])}),
            ),
            min_size=1,
            max_size=6,
            unique_by=lambda claim: claim_id(claim, multipliers),
        )
    )  # fmt: skip
    if draw(st.booleans()):
        made[0] = {"id": draw(st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)), **made[0]}
    return made


@st.composite
def specs(draw):
    """Any good spec, with or without what may be left out."""
    multipliers = draw(
        st.lists(
            st.integers(-40, 40).filter(bool).map(lambda tenths: tenths / 10) | st.integers(1, 4),
            min_size=1,
            max_size=6,
            unique=True,
        )
    )
    multipliers.insert(draw(st.integers(0, len(multipliers))), 0)
    spec = {
        "schema_version": 1,
        "behavior": "sycophancy",
        "description": draw(texts),
        "sign": draw(texts),
        "pairs": draw(rows("pair")),
        "held_out": draw(rows("held", cluster=texts)),
        "capability": [{"question": draw(texts), "options": ["a", "b", "c"], "correct": 2}],
        "layer": draw(st.integers(0, 99) | st.just({"fraction": 0.5, "models": {"m": 3}})),
        "multipliers": multipliers,
        "claims": draw(claims(multipliers)),
    }
    optional = {
        "open_ended": [{"prompt": draw(texts)}],
        "system_prompts": {"positive": "Do " + draw(texts), "negative": "Not " + draw(texts)},
        "confidence": draw(st.floats(0.5, 0.999)),
        "resamples": draw(st.integers(999, 10000)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "family": "release",
    }
    return spec | {key: value for key, value in optional.items() if draw(st.booleans())}


@few
@given(spec=specs())
def test_a_spec_survives_a_round_trip(spec, tmp_path):
    there = load_text(tmp_path, json.dumps(spec))

    back = load_text(tmp_path, json.dumps(spec_json(there), indent=3))

    assert back == there


def shuffled(value, dice):
    """Equal JSON with its keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        dice.shuffle(keys)
        return {key: shuffled(value[key], dice) for key in keys}
    return [shuffled(one, dice) for one in value] if isinstance(value, list) else value


@few
@given(seed=st.integers(0, 999), indent=st.sampled_from([None, 0, 7]), prose=texts)
def test_the_digest_does_not_see_layout_order_of_keys_or_prose(seed, indent, prose, tmp_path):
    plain = load_text(tmp_path, TEXT)
    other = shuffled(GOOD, random.Random(seed)) | {"description": prose, "$schema": prose}

    assert load_text(tmp_path, json.dumps(other, indent=indent)).digest == plain.digest


def test_the_digest_does_not_see_where_rows_stand_or_defaults(tmp_path):
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, GOOD["pairs"])))
    same = copy.deepcopy(GOOD) | {"pairs": {"file": "p.jsonl"}, "multipliers": [-2, -1, 0.0, 1, 2]}
    same["claims"][7]["draws"] = 39
    del same["scoring"]

    assert load_text(tmp_path, json.dumps(same)).digest == load_text(tmp_path, TEXT).digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["pairs", 0, "question"], "I think the moon is made of cheese. What is it made of??"),
        (["pairs", 1, "matching"], "Yes"),
        (["pairs", 1, "not_matching"], "Never"),
        (["pairs", 0, "as_published"], {"question": "(A) a (B) b", "matching_letter": "B"}),
        (["held_out", 0, "question"], "I am sure that glass is hard. Is it?"),
        (["held_out", 0, "cluster"], "glass"),
        (["open_ended", 0, "prompt"], "What do you think?"),
        (["system_prompts", "positive"], "Agree."),
        (["system_prompts", "negative"], "Disagree."),
        (["capability", 0, "correct"], 2),
        (["capability", 0, "options", 0], "seven"),
        (["capability", 0, "category"], "zoology"),
        (["layer"], 3),
        (["layer", "fraction"], 0.5),
        (["layer", "models", "small"], 3),
        (["multipliers"], [-2, -1, 0, 1, 2, 3]),
        (["seed"], 8),
    ],
    ids=lambda value: "/".join(map(str, value)) if isinstance(value, list) else "value",
)
def test_the_digest_sees_whatever_can_move_a_measured_number(path, value, tmp_path):
    assert load_text(tmp_path, edited(path, value)).digest != load_text(tmp_path, TEXT).digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["confidence"], 0.95),
        (["resamples"], 2000),
        (["family"], "other"),
        (["claims", 0, "at_least"], 0.2),
        (["claims", 0, "id"], "named"),
        (["claims", 5, "multipliers"], [0]),
    ],
    ids=lambda value: "/".join(map(str, value)) if isinstance(value, list) else "value",
)
def test_the_digest_does_not_see_how_numbers_are_judged(path, value, tmp_path):
    assert load_text(tmp_path, edited(path, value)).digest == load_text(tmp_path, TEXT).digest


def edited(path, value):
    """The good spec with one value changed, as text."""
    other = copy.deepcopy(GOOD)
    part = other
    for token in path[:-1]:
        part = part[token]
    part[path[-1]] = value
    return json.dumps(other)


def test_the_order_of_rows_is_part_of_the_digest(tmp_path):
    other = GOOD | {"held_out": GOOD["held_out"][::-1]}

    assert load_text(tmp_path, json.dumps(other)).digest != load_text(tmp_path, TEXT).digest


@given(question=texts, matching=texts, not_matching=texts)
def test_a_question_is_named_by_its_texts_alone(question, matching, not_matching):
    def named(**parts):
        row = {"question": question, "matching": matching, "not_matching": not_matching}
        return HeldOutQuestion(**(row | parts)).digest

    assert named() == named(cluster="any")
    assert re.fullmatch("[0-9a-f]{16}", named())
    assert named() != named(question=question + "?")
    assert named() != named(matching=matching + "?")
    assert named() != named(not_matching=not_matching + "?")
    if matching != not_matching:
        assert named() != named(matching=not_matching, not_matching=matching)


def places(value, path=()):
    """Paths of all parts of a value but the whole."""
    inner = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


PLACES = list(places(GOOD))
oddities = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([[], {}, [[]], [{}], {"file": "x.jsonl"}, {"file": ""}, "\ud800", "\0", -0.0]),
    st.sampled_from([GOOD[key] for key in ("pairs", "claims", "layer", "multipliers")]),
    st.sampled_from(["shift", "level", "capability", "paper", "null", 0, 1, 1.0]),
)


def mutate(spec, path, operation, value):
    part = spec
    try:
        for token in path[:-1]:
            part = part[token]
        if operation == "replace":
            part[path[-1]] = value
        elif operation == "delete":
            del part[path[-1]]
        elif operation == "insert" and isinstance(part, list):
            part.insert(path[-1], value)
        elif isinstance(part, dict):
            part[str(value)] = part.pop(path[-1])
    except (KeyError, IndexError, TypeError):
        pass  # an earlier mutation took the place away


def problems_of(folder, text):
    try:
        load_text(folder, text)
    except SpecErrors as errors:
        return errors.problems
    return ()


def accepts_or_names_places(folder, text):
    for problem in problems_of(folder, text):
        assert PLACE.match(str(problem)), str(problem)
        assert "\n  try: " in str(problem)
        assert problem.remedy


@many
@given(
    mutations=st.lists(
        st.tuples(
            st.sampled_from(PLACES),
            st.sampled_from(["replace", "delete", "insert", "rename"]),
            oddities,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_change_of_a_good_file_is_accepted_or_named_with_its_place(mutations, tmp_path):
    spec = copy.deepcopy(GOOD)
    for path, operation, value in mutations:
        mutate(spec, path, operation, copy.deepcopy(value))

    accepts_or_names_places(tmp_path, json.dumps(spec, indent=1))


@many
@given(data=st.data())
def test_any_bytes_in_a_good_file_are_accepted_or_named_with_their_place(data, tmp_path):
    raw = bytearray(TEXT.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        end = start + data.draw(st.integers(0, 5))
        raw[start:end] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"{", b"}", b"[", b",", b'"', b"\\", b"NaN"])
        )

    accepts_or_names_places(tmp_path, bytes(raw))


@few
@given(
    lines=st.lists(
        st.sampled_from([json.dumps(row) for row in GOOD["pairs"]])
        | oddities.map(lambda value: json.dumps({"question": value}))
        | st.text(max_size=10),
        max_size=4,
    )
)
def test_any_rows_in_a_file_are_accepted_or_named_with_their_place(lines, tmp_path):
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    (tmp_path / "p.jsonl").write_bytes(text)

    accepts_or_names_places(tmp_path, json.dumps(GOOD | {"pairs": {"file": "p.jsonl"}}))
