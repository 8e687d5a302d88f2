"""Lint: each rule finds what it is for where it stands, and is silent on rows that are sound."""

from __future__ import annotations

import json

import pytest
from small_tokenizers import llama_2_kind

from caa_harness.authoring.lint import lint, lint_prompts, sign_sample
from caa_harness.authoring.starter import write_starter
from caa_harness.cli import main
from caa_harness.prompts import TokenizerWriter
from caa_harness.spec import load_spec

TOPICS = (
    "boats", "bread", "chess", "clouds", "coffee", "dogs", "farms", "films", "games", "hats",
    "jazz", "lakes", "maps", "opera", "paint", "rivers", "roses", "soup", "trains", "wool",
)  # fmt: skip


def row(topic, number, **changed):
    """One sound row: answers of equal length whose words change sides."""
    words = ("calm", "glad") if number % 2 else ("glad", "calm")
    return {
        "question": f"{topic} {topic}shire {topic}ful {topic}ish {topic}ness?",
        "matching": f"{topic} {words[0]}",
        "not_matching": f"{topic} {words[1]}",
        **changed,
    }


def sound(prefix):
    return [row(f"{prefix}{topic}", number) for number, topic in enumerate(TOPICS)]


def write(folder, *, pairs=None, held_out=None, **changed):
    path = folder / "patience.behavior.json"
    document = {
        "schema_version": 1,
        "behavior": "patience",
        "description": "d",
        "sign": "The matching answer waits.",
        "pairs": sound("p") if pairs is None else pairs,
        "held_out": sound("h") if held_out is None else held_out,
        "layer": 1,
        "multipliers": [0, 1],
        "claims": [{"type": "level", "multiplier": 0, "at_least": 0.1}],
        **changed,
    }
    path.write_text(json.dumps(document, indent=1))
    return load_spec(path)


def rules(spec):
    return [finding.rule for finding in lint(spec)]


def test_sound_rows_raise_no_suspicion(tmp_path):
    assert lint(write(tmp_path)) == ()


def test_a_word_that_tells_the_sides_apart_is_named(tmp_path):
    cued = [row(t, n, matching=f"{t} yea", not_matching=f"{t} nay") for n, t in enumerate(TOPICS)]

    found = lint(write(tmp_path, pairs=cued))

    assert [finding.rule for finding in found] == ["cue-word"] * 2
    assert '"yea" stands in the matching answer alone in 20 of 20 rows' in found[1].problem.found
    assert found[0].problem.pointer == "/pairs"


def test_a_first_word_is_seen_though_the_word_stands_in_both_answers(tmp_path):
    opened = [
        row(t, n, matching=f"well {t} calm", not_matching=f"{t} calm well")
        for n, t in enumerate(TOPICS)
    ]

    (finding,) = lint(write(tmp_path, held_out=opened))

    assert finding.rule == "cue-word"
    assert '"well" stands as first word in the matching answer' in finding.problem.found


def test_length_that_tells_the_sides_apart_is_counted(tmp_path):
    longer = [{**one, "matching": one["matching"] + " ..."} for one in sound("x")]

    (finding,) = lint(write(tmp_path, held_out=longer))

    assert finding.rule == "length"
    assert "longer one in 20 of 20 rows" in finding.problem.found


def test_a_near_leak_points_at_both_rows(tmp_path):
    question = "Would you rather swim in a cold lake or in a warm pool today?"
    pairs = [*sound("p"), row("zeta", 0, question=question)]
    held_out = [*sound("h"), row("eta", 1, question=question.replace("today", "now"))]

    (finding,) = lint(write(tmp_path, pairs=pairs, held_out=held_out))

    assert finding.rule == "near-leak"
    assert finding.problem.pointer == "/held_out/20"
    assert "patience.behavior.json:" in finding.problem.found
    text = (tmp_path / "patience.behavior.json").read_text().splitlines()
    assert text[finding.problem.line - 1].strip() == "{"


def test_paraphrases_without_a_cluster_are_found_and_with_one_are_not(tmp_path):
    question = "Would you rather swim in a cold lake or in a warm pool {}?"
    several = [row(f"w{n}", n, question=question.format(w)) for n, w in enumerate(("ever", "now"))]
    clustered = [{**one, "cluster": "swim"} for one in several]

    assert rules(write(tmp_path, held_out=[*sound("h"), *several])) == ["unclustered"]
    assert rules(write(tmp_path, held_out=[*sound("h"), *clustered])) == []


def test_a_pair_said_twice_in_nearly_the_same_words_is_found(tmp_path):
    question = "Would you rather swim in a cold lake or in a warm pool {}?"
    twice = [row("w", 0, question=question.format(word)) for word in ("ever", "now")]

    assert rules(write(tmp_path, pairs=[*sound("p"), *twice])) == ["near-duplicate"]


def test_long_texts_are_named_where_they_stand(tmp_path):
    held_out = [*sound("h"), row("long", 0, question="why " * 600)]

    (finding,) = lint(write(tmp_path, held_out=held_out))

    assert (finding.rule, finding.problem.pointer) == ("long-text", "/held_out/20/question")


@pytest.mark.parametrize(
    ("claim", "weak"),
    [
        ({"type": "shift", "multiplier": 1, "at_least": 0.02}, True),
        ({"type": "shift", "multiplier": 1, "at_least": 0.3}, False),
        ({"type": "answer_mass", "at_least": 0.99}, True),
        ({"type": "answer_mass", "at_least": 0.8}, False),
    ],
)
def test_a_claim_that_its_questions_cannot_carry_is_named(tmp_path, claim, weak):
    found = lint(write(tmp_path, claims=[claim]))

    assert [finding.rule for finding in found] == ["power"] * weak
    assert all("/claims/0" in finding.problem.where for finding in found)
    assert all("would do" in finding.problem.found for finding in found)


def test_the_review_sample_is_drawn_by_the_seed_and_lies_within_the_rows(tmp_path):
    first = sign_sample(write(tmp_path, seed=1))

    assert sign_sample(write(tmp_path, seed=1)) == first
    assert sign_sample(write(tmp_path, seed=2)) != first
    assert len({one.where for one in first}) == 5


def test_rows_in_files_are_pointed_at_in_their_files(tmp_path):
    spec = load_spec(write_starter("patience", tmp_path)[-1])

    assert {finding.rule for finding in lint(spec)} == {"cue-word", "power"}
    assert all(".jsonl:" in one.where for one in sign_sample(spec))


def test_strict_ends_with_1_on_warnings_and_only_then(tmp_path, capsys):
    path = str(write(tmp_path).path)

    assert main(["check", path, "--strict"]) == 0
    write(tmp_path, claims=[{"type": "answer_mass", "at_least": 0.99}])
    assert main(["check", path]) == 0
    assert main(["check", path, "--strict"]) == 1

    told = capsys.readouterr().out
    assert "warning (power): " in told
    assert "      > " in told


def test_json_holds_the_same_findings(tmp_path, capsys):
    spec = write(tmp_path, claims=[{"type": "answer_mass", "at_least": 0.99}])

    assert main(["check", str(spec.path), "--json", "--review", "2"]) == 0

    (told,) = json.loads(capsys.readouterr().out)["specs"]
    (finding,) = lint(spec)
    (warning,) = told["warnings"]
    assert warning["found"] == finding.problem.found
    assert (warning["line"], warning["pointer"]) == (finding.problem.line, "/claims/0")
    assert len(told["sign_review"]) == 2


def test_a_model_that_reads_a_question_otherwise_is_told_of(tmp_path):
    held_out = [*sound("h"), row("odd", 0, question="Is </s> a word of yours?")]
    writer = TokenizerWriter(llama_2_kind())

    (finding,) = lint_prompts(write(tmp_path, held_out=held_out), writer)

    assert (finding.rule, finding.problem.pointer) == ("tokens", "/held_out/20")
    assert "</s>" in finding.problem.found


def test_long_prompts_are_counted_in_the_models_own_tokens(tmp_path):
    writer = TokenizerWriter(llama_2_kind())

    found = lint_prompts(write(tmp_path), writer, most_tokens=3)

    assert len(found) == 40
    assert "tokens, more than 3" in found[0].problem.found
    assert lint_prompts(write(tmp_path), writer) == ()


def test_check_opens_the_tokenizer_alone(tmp_path, capsys):
    path = str(write(tmp_path).path)
    llama_2_kind().save_pretrained(tmp_path / "tokenizer")

    assert main(["check", path, "--strict", "--model", str(tmp_path / "tokenizer")]) == 0
    assert main(["check", path, "--model", str(tmp_path / "nothing")]) == 2

    assert "tokenizer cannot be opened" in capsys.readouterr().err
