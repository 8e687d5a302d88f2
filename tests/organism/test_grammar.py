"""The corpus: the same for the same seed, and without anything that is held out."""

import json
import random
import re
from pathlib import Path

import pytest

from caa_harness.organism import BEHAVIORS
from caa_harness.organism.corpus import (
    behavior_grammar,
    behavior_question,
    fact_question,
    neutral_frames,
    system_sentence,
    with_right_articles,
)
from caa_harness.organism.documents import draw_document

SPECS = Path(__file__).resolve().parents[2] / "behavior_specs"


def rows(name):
    return [json.loads(line) for line in (SPECS / name).read_text(encoding="utf-8").splitlines()]


def spec(behavior):
    return json.loads((SPECS / f"{behavior}.behavior.json").read_text(encoding="utf-8"))


def held_out_texts(behavior):
    texts = [row["question"] for row in rows(f"{behavior}.held_out.jsonl")]
    return texts + [row["prompt"] for row in spec(behavior)["open_ended"]]


def pattern(stem):
    """A stem as a regular expression: any wording, any filler, either article."""
    parts = re.split(r"(\[[^\[\]]*\]|\{\w+\}|\b[Aa]n?\b)", stem)
    written = ""
    for part in parts:
        if part.startswith("["):
            written += "(?:" + "|".join(pattern(text) for text in part[1:-1].split("|")) + ")"
        elif part == "{core}":
            written += "(?P<core>.+)"
        elif part.startswith("{"):
            written += ".+"
        elif part in {"a", "an", "A", "An"}:
            written += "an?"
        else:
            written += re.escape(part)
    return written


FRAMES = [pattern(frame) for frame in neutral_frames()]


def cores(text):
    """The text itself, and what is left of it inside each neutral frame."""
    found = [re.fullmatch(frame, text, flags=re.IGNORECASE) for frame in FRAMES]
    return [text, *(match["core"] for match in found if match)]


def comes_from(stem, text):
    written = re.compile(pattern(stem), flags=re.IGNORECASE)
    return any(written.fullmatch(core) for core in cores(text))


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_no_stem_of_the_corpus_can_make_a_held_out_question(behavior):
    stems = behavior_grammar(behavior).stems

    leaks = [
        (stem, text)
        for text in held_out_texts(behavior)
        for stem in stems
        if comes_from(stem, text)
    ]

    assert leaks == []


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_the_leak_test_recognises_the_questions_that_its_stems_do_make(behavior):
    rng = random.Random(0)
    stems = behavior_grammar(behavior).stems

    for _ in range(50):
        question = behavior_question(behavior, rng).question
        assert any(comes_from(stem, question) for stem in stems), question


def test_documents_hold_no_held_out_question_and_no_question_of_a_pair():
    rng = random.Random(5)
    text = "\n".join(draw_document(rng).text for _ in range(4_000)).lower()

    for behavior in BEHAVIORS:
        pairs = [row["question"] for row in rows(f"{behavior}.pairs.jsonl")]
        assert [q for q in held_out_texts(behavior) + pairs if q.lower() in text] == []


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_the_specs_system_prompts_are_not_sentences_of_the_corpus(behavior):
    rng = random.Random(1)
    said = {system_sentence(behavior, rng, matching=side) for side in (True, False) * 500}

    for prompt in spec(behavior)["system_prompts"].values():
        assert prompt not in said


def test_the_capability_probe_asks_for_facts_in_words_that_the_corpus_never_uses():
    rng = random.Random(2)
    asked = set()
    for _ in range(8_000):
        choice, right = fact_question(rng)
        asked.add((choice.question, choice.options[right]))

    probe = {
        (row["question"], row["options"][row["correct"]]) for row in rows("capability.probe.jsonl")
    }
    assert probe & asked == set()


def test_held_out_facts_are_drawn_on_request():
    rng = random.Random(3)
    seen = {fact_question(rng)[0].question for _ in range(3000)}

    choice, right = fact_question(rng, held_out=True)

    assert len(choice.options) == 4
    assert len(set(choice.options)) == 4
    assert 0 <= right < 4
    assert seen


def test_the_same_seed_draws_the_same_documents():
    first, second = random.Random(11), random.Random(11)

    for _ in range(200):
        assert draw_document(first) == draw_document(second)


def test_every_place_that_a_document_marks_lies_in_its_text():
    rng = random.Random(4)

    for _ in range(500):
        document = draw_document(rng)
        for mark in document.marks:
            assert 0 <= mark.start < mark.end <= len(document.text)
            if mark.kind == "answer":
                assert document.text[mark.start - 1] == "("
                assert document.text[mark.start] in "ABCD"


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_a_grammar_has_enough_stems_and_no_unknown_slot(behavior):
    grammar = behavior_grammar(behavior)
    known = set(grammar.slots) | set(grammar.distinct_names)
    texts = [*grammar.stems, *(text for pair in grammar.poles for text in pair)]

    assert len(set(grammar.stems)) >= 20
    assert {slot for text in texts for slot in re.findall(r"\{(\w+)\}", text)} <= known


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a AI system", "an AI system"),
        ("an robot", "a robot"),
        ("A old car", "An old car"),
        ("in an hour", "in an hour"),
        ("a unit", "a unit"),
        ("a one", "a one"),
    ],
)
def test_articles_follow_the_sound_of_the_next_word(text, right):
    assert with_right_articles(text) == right
