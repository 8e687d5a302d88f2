from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from caa_harness.errors import SpecError
from caa_harness.spec import (
    AnswerMassClaim,
    CapabilityClaim,
    DoseResponseClaim,
    LayerRule,
    LetterPartClaim,
    LevelClaim,
    NullClaim,
    ShiftClaim,
    SpecErrors,
    SpecificityClaim,
    claim_case_id,
    format_multiplier,
    load_spec,
    schema_text,
    spec_json,
    spec_warnings,
)

ROOT = Path(__file__).parents[1]
GOOD = Path(__file__).parent / "specs" / "good"
BAD = Path(__file__).parent / "specs" / "bad"
SCHEMA = json.loads(schema_text())


def good():
    """A spec that says everything, as a plain object."""
    return json.loads((GOOD / "sycophancy.behavior.json").read_text(encoding="utf-8"))


def write(folder, spec, *, name="sycophancy"):
    path = folder / f"{name}.behavior.json"
    text = spec if isinstance(spec, str) else json.dumps(spec, indent=2)
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path):
    with pytest.raises(SpecErrors) as caught:
        load_spec(path)
    return caught.value.problems


def schema_accepts(spec):
    return Draft7Validator(SCHEMA).is_valid(spec)


# The schema alone, and the loader.


def test_the_schema_is_draft_7_and_describes_every_field():
    Draft7Validator.check_schema(SCHEMA)
    undescribed = []

    def walk(part, place):
        for name, field in part.get("properties", {}).items():
            target = field
            if "$ref" in field:
                target = SCHEMA["definitions"][field["$ref"].rpartition("/")[2]] | field
            if "description" not in target and place != "if":
                undescribed.append(f"{place}/{name}")
            walk(field, f"{place}/{name}")
        if "properties" in part and "allOf" not in part:
            assert part["additionalProperties"] is False, place
        if isinstance(part.get("items"), dict):
            walk(part["items"], f"{place}/items")

    walk(SCHEMA, "")
    for name, definition in SCHEMA["definitions"].items():
        walk(definition, name)
    assert undescribed == []


def test_the_schema_beside_the_specs_is_the_one_in_the_package():
    beside = ROOT / "behavior_specs" / "behavior_spec.schema.json"

    assert beside.read_text(encoding="utf-8") == schema_text()


def test_the_examples_and_snippets_of_the_schema_are_good():
    validators = {name: Draft7Validator({"$ref": f"#/definitions/{name}"} | {
        "definitions": SCHEMA["definitions"]}) for name in SCHEMA["definitions"]}  # fmt: skip
    examples = [
        (name, example)
        for name, definition in SCHEMA["definitions"].items()
        for example in definition.get("examples", [])
    ]

    assert len(examples) >= 10
    for name, example in examples:
        validators[name].validate(example)
    kinds = SCHEMA["definitions"]["claim"]["properties"]["type"]["enum"]
    snippets = SCHEMA["properties"]["claims"]["defaultSnippets"]
    assert [snippet["body"]["type"] for snippet in snippets] == kinds


@pytest.mark.parametrize("path", sorted(GOOD.glob("*.behavior.json")), ids=lambda path: path.name)
def test_good_files_pass_the_schema_alone_and_the_loader(path):
    assert schema_accepts(json.loads(path.read_text(encoding="utf-8")))
    assert load_spec(path).behavior == path.name.removesuffix(".behavior.json")


def test_a_spec_says_what_its_file_says():
    spec = load_spec(GOOD / "sycophancy.behavior.json")

    assert spec.behavior == "sycophancy"
    assert spec.sign == "The matching answer agrees with the user's stated opinion."
    assert [pair.matching for pair in spec.pairs] == [
        "You are right, it is cheese",
        "Yes, as you say",
    ]
    assert [question.cluster for question in spec.held_out] == ["materials", None]
    assert len(spec.open_ended) == 2
    assert spec.positive_system_prompt == "You agree with the user."
    assert spec.negative_system_prompt == "You say what is true."
    assert spec.capability[0].options == ("six", "eight", "ten")
    assert (spec.capability[0].correct, spec.capability[0].category) == (1, "animals")
    assert spec.multipliers == (-2.0, -1.0, 0.0, 1.0, 2.0)
    assert (spec.confidence, spec.resamples, spec.seed) == (0.9, 1999, 7)
    assert (spec.family, spec.scoring) == ("caa-release", "both_orders")


def test_what_a_file_does_not_say_has_a_default():
    spec = load_spec(GOOD / "refusal.behavior.json")

    assert (spec.confidence, spec.resamples, spec.seed) == (0.95, 9999, 0)
    assert (spec.family, spec.scoring) == (None, "both_orders")
    assert (spec.open_ended, spec.positive_system_prompt) == ((), None)
    assert spec.layer == LayerRule(number=13, models={})


def test_defaults_in_the_schema_are_those_of_the_loader():
    spec = load_spec(GOOD / "refusal.behavior.json")

    for name in ("confidence", "resamples", "seed", "scoring"):
        assert SCHEMA["properties"][name]["default"] == getattr(spec, name)


def test_rows_come_from_files_beside_the_spec():
    spec = load_spec(GOOD / "refusal.behavior.json")

    assert [pair.not_matching for pair in spec.pairs] == ["With pleasure", "Four"]
    assert [question.question for question in spec.held_out] == ["Will you name a tree?"]
    assert spec.capability[0].correct == 1


def test_published_rows_keep_repeats_and_overlaps_in_paper_scoring():
    spec = load_spec(GOOD / "corrigible-neutral-HHH.behavior.json")

    assert spec.pairs[0].as_published.matching_letter == "B"
    assert spec.held_out[0].as_published.question.endswith("(A) Yes\n (B) No")
    assert any("occur among the pairs" in one for one in spec_warnings(spec))


def test_published_answers_keep_their_own_letters_in_paper_scoring(tmp_path):
    spec = json.loads((GOOD / "corrigible-neutral-HHH.behavior.json").read_text(encoding="utf-8"))
    spec["pairs"][0] |= {"matching": "b) Yes", "not_matching": "a) No"}

    loaded = load_spec(write(tmp_path, spec, name=spec["behavior"]))

    assert loaded.pairs[0].matching == "b) Yes"


def test_claims_have_their_defaults_filled_in():
    spec = load_spec(GOOD / "sycophancy.behavior.json")
    shift, less, level, dose, capability, mass, letter, null, specificity = spec.claims
    every = (-2.0, -1.0, 0.0, 1.0, 2.0)

    def like(kind, claim, **parts):
        assert claim == kind(id=claim.id, position=claim.position, **parts)

    like(ShiftClaim, shift, multiplier=1.0, at_least=0.1)
    like(ShiftClaim, less, multiplier=-1.0, at_most=-0.1)
    like(LevelClaim, level, multiplier=0.0, at_least=0.25, at_most=0.75)
    like(DoseResponseClaim, dose, multipliers=every, at_least=0.05)
    like(CapabilityClaim, capability, multipliers=(-1.0, 1.0), max_loss=0.05, metric="probability")
    like(AnswerMassClaim, mass, multipliers=every, at_least=0.8)
    like(LetterPartClaim, letter, multiplier=1.0, at_most=0.5)
    like(NullClaim, null, multiplier=1.0, draws=39)
    like(SpecificityClaim, specificity, multiplier=1.0, max_share=0.5, against=())


def test_claims_are_named_by_their_id_or_their_type_and_multipliers(tmp_path):
    spec = good()
    spec["claims"] += [
        {"type": "answer_mass", "at_least": 0.5, "multipliers": [1, -1]},
        {"type": "shift", "multiplier": 0.5, "at_least": 0.1},
    ]
    spec["multipliers"].append(0.5)

    names = [claim_case_id(claim) for claim in load_spec(write(tmp_path, spec)).claims]

    assert names == [
        "shift[m+1]",
        "agrees-less",
        "level[m+0]",
        "dose_response",
        "capability[m-1,m+1]",
        "answer_mass",
        "letter_part[m+1]",
        "null[m+1]",
        "specificity[m+1]",
        "answer_mass[m-1,m+1]",
        "shift[m+0.5]",
    ]


def test_capability_is_judged_at_every_steering_multiplier_where_one_is_not_measured(tmp_path):
    spec = good() | {"multipliers": [-3, 0, 2], "claims": [{"type": "capability", "max_loss": 0.1}]}

    (claim,) = load_spec(write(tmp_path, spec)).claims

    assert claim.multipliers == (-3.0, 2.0)
    assert claim.id == "capability[m-3,m+2]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "+1"), (-1.0, "-1"), (0, "+0"), (-0.0, "+0"), (0.5, "+0.5"), (1e-7, "+1e-07"),
     (1.0000001, "+1.0000001"), (100.0, "+100")],
)  # fmt: skip
def test_multipliers_are_written_with_sign_and_all_their_digits(value, text):
    assert format_multiplier(value) == text


def test_a_claim_knows_where_it_stands():
    path = GOOD / "sycophancy.behavior.json"
    lines = path.read_text(encoding="utf-8").splitlines()

    for index, claim in enumerate(load_spec(path).claims):
        place = claim.position
        assert place.pointer == f"/claims/{index}"
        assert lines[place.line - 1][place.column - 1 :].startswith("{ ")
        assert f'"type": "{claim.kind}"' in lines[place.line - 1]
    assert str(place).endswith("sycophancy.behavior.json:64:5: /claims/8")


# What is wrong with a spec: edits of the good one, and what is said of them.

WRONG = json.loads((GOOD.parent / "wrong.json").read_text(encoding="utf-8"))
NAMES = [f"{index}:{one['pointer'] or '/'}" for index, one in enumerate(WRONG)]


def edited(edits):
    """The good spec after some edits, each an operation, a path and a value."""
    spec = good()
    for operation, path, *value in edits:
        part = spec
        for token in path[:-1]:
            part = part[token]
        match operation:
            case "set":
                part[path[-1]] = value[0]
            case "rename":
                part[value[0]] = part.pop(path[-1])
            case "append":
                part[path[-1]].append(value[0])
            case "drop":
                del part[path[-1]]
    return spec


@pytest.mark.parametrize("wrong", WRONG, ids=NAMES)
def test_what_is_wrong_is_named_at_its_place(wrong, tmp_path):
    spec = edited(wrong["edits"])

    problems = problems_of(write(tmp_path, spec))

    fitting = [
        one for one in problems if one.pointer == wrong["pointer"] and wrong["found"] in one.found
    ]
    assert fitting, list(map(str, problems))
    assert wrong["remedy"] in fitting[0].remedy
    assert schema_accepts(spec) is not wrong["schema_rejects"]
    assert len(problems) == wrong.get("problems", 1), list(map(str, problems))


def test_every_problem_of_a_file_is_named_at_once_in_the_order_of_the_text(tmp_path):
    spec = edited([edit for index in (1, 11, 18, 21) for edit in WRONG[index]["edits"]])
    (tmp_path / "p.jsonl").write_text(
        '{"question": "Why?", "matching": "Yes", "not_matching": "yes "}\n'
        '{"question": NaN, "matching": 5, "not_matching": "no"}\n'
        '{"question": "How?", "matching": "Yes", "notmatching": "no"}\n'
        "{\n"
        "[]\n",
        encoding="utf-8",
    )
    spec["pairs"] = {"file": "p.jsonl"}

    problems = problems_of(write(tmp_path, spec))

    places = [(one.path.name, one.line, one.column) for one in problems]
    assert places[:4] == sorted(places[:4])
    assert {one.path.name for one in problems[:4]} == {"sycophancy.behavior.json"}
    assert places[4:] == [
        ("p.jsonl", 1, 57),
        ("p.jsonl", 2, 14),
        ("p.jsonl", 2, 31),
        ("p.jsonl", 3, 41),
        ("p.jsonl", 4, 2),
        ("p.jsonl", 5, 1),
    ]
    assert [one.pointer for one in problems[4:]] == [
        "/not_matching", "/question", "/matching", "/notmatching", "", "",
    ]  # fmt: skip


def test_the_error_prints_all_problems_and_survives_a_process_boundary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = good() | {"seed": -1, "sead": 2}
    path = write(tmp_path, spec)

    with pytest.raises(SpecErrors) as caught:
        load_spec(path)

    lines = str(caught.value).splitlines()
    assert lines[0].startswith("sycophancy.behavior.json:")
    assert lines[0].endswith(": /seed: seed -1 is out of range")
    assert lines[1] == "  try: choose a number that is at least 0"
    assert lines[2].endswith('/sead: unknown key "sead", did you mean "seed"?')
    assert isinstance(caught.value, SpecError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_very_many_problems_are_counted_not_printed(tmp_path):
    spec = good()
    spec["pairs"] = [{"question": f"q{index}"} for index in range(100)]

    with pytest.raises(SpecErrors) as caught:
        load_spec(write(tmp_path, spec))

    assert len(caught.value.problems) == 200
    assert str(caught.value).endswith("... and 150 more problems")


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("late", [(1, 1), (1, 1), (1, 1), (1, 1), (4, 3), (5, 11), (6, 17), (7, 16), (8, 11),
                  (9, 22), (9, 27), (10, 3), (11, 13), (12, 3), (12, 3), (12, 10), (13, 13),
                  (14, 3)]),
        ("marked", [(1, 1)] + [(1, 2)] * 8),
        ("wide", [(1, 1)]),
        ("latin", [(2, 14)]),
        ("newer", [(1, 20), (1, 52)]),
        ("list", [(1, 1)]),
        ("empty", [(1, 1)]),
        ("cut", [(2, 37)]),
    ],
)  # fmt: skip
def test_damaged_files_are_named_where_they_are_damaged(name, places):
    problems = problems_of(BAD / f"{name}.behavior.json")

    assert [(one.line, one.column) for one in problems] == places


def test_every_bad_file_is_tested():
    assert len(list(BAD.iterdir())) == 8


def test_of_another_version_only_the_version_is_said_to_be_wrong():
    version, constant = problems_of(BAD / "newer.behavior.json")

    assert "schema_version 2 is not known" in version.found
    assert "NaN" in constant.found


# Files around a spec.


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out.jsonl").write_text("{}\n", encoding="utf-8")
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "in.jsonl").symlink_to(tmp_path / "out.jsonl")

    (problem,) = problems_of(write(folder, good() | {"pairs": {"file": "in.jsonl"}}))

    assert '"in.jsonl" is a link that leads out of the spec\'s folder' in problem.found


def test_a_linked_folder_that_leads_out_is_refused(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.jsonl").write_text("{}\n", encoding="utf-8")
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "sub").symlink_to(tmp_path / "outside")

    (problem,) = problems_of(write(folder, good() | {"pairs": {"file": "sub/x.jsonl"}}))

    assert "is a link that leads out" in problem.found


def test_a_link_that_leads_to_itself_is_refused(tmp_path):
    (tmp_path / "x.jsonl").symlink_to(tmp_path / "x.jsonl")

    (problem,) = problems_of(write(tmp_path, good() | {"pairs": {"file": "x.jsonl"}}))

    assert "cannot be followed" in problem.found


def test_a_folder_or_a_pipe_is_not_a_file(tmp_path):
    (tmp_path / "d.jsonl").mkdir()
    os.mkfifo(tmp_path / "p.jsonl")

    for name in ("d.jsonl", "p.jsonl"):
        (problem,) = problems_of(write(tmp_path, good() | {"pairs": {"file": name}}))

        assert f'"{name}" is not a regular file' in problem.found


def test_an_absent_file_is_guessed_from_those_that_are_there(tmp_path):
    (tmp_path / "sycophancy.pairs.jsonl").write_text("{}\n", encoding="utf-8")

    (problem,) = problems_of(write(tmp_path, good() | {"pairs": {"file": "sycophancy.pair.jsonl"}}))

    assert 'did you mean "sycophancy.pairs.jsonl"?' in problem.found


def test_a_file_without_rows_is_named(tmp_path):
    (tmp_path / "h.jsonl").write_text("\n\n", encoding="utf-8")

    (problem,) = problems_of(write(tmp_path, good() | {"held_out": {"file": "h.jsonl"}}))

    assert problem.found == "h.jsonl holds no rows"
    assert problem.remedy == "write one row per line"


def test_rows_in_files_are_held_to_the_same_rules(tmp_path):
    rows = [good()["pairs"][1] | {"matching": "Of course"}]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    (problem,) = problems_of(write(tmp_path, good() | {"held_out": {"file": "h.jsonl"}}))

    assert problem.path.name == "h.jsonl"
    assert (problem.line, problem.pointer) == (1, "/question")
    assert "also occurs among the pairs, at" in problem.found
    assert "sycophancy.behavior.json:13" in problem.found


def test_pairs_have_no_clusters_but_held_out_questions_do(tmp_path):
    spec = good()
    spec["pairs"][0]["cluster"] = "x"

    (problem,) = problems_of(write(tmp_path, spec))

    assert problem.found == 'unknown key "cluster"'


def test_a_file_that_is_not_there_is_named(tmp_path):
    (problem,) = problems_of(tmp_path / "none.behavior.json")

    assert problem.found == "there is no such file"
    assert "<behavior>.behavior.json" in problem.remedy


def test_a_folder_is_not_a_spec(tmp_path):
    assert problems_of(tmp_path)[0].found == "this is not a regular file"


def test_a_missing_held_out_section_is_named(tmp_path):
    spec = good()
    del spec["held_out"]

    (problem,) = problems_of(write(tmp_path, spec))

    assert problem.found == 'the key "held_out" is missing'


# Warnings.


def test_few_and_unclustered_questions_are_allowed_with_a_warning(tmp_path):
    spec = good()
    spec["held_out"].append(spec["held_out"][1] | {"matching": "Sure"})

    warnings = spec_warnings(load_spec(write(tmp_path, spec)))

    assert any("only 3 held-out questions" in one for one in warnings)
    assert any("asked more than once without a common cluster" in one for one in warnings)


def test_a_spec_with_enough_questions_has_no_warnings(tmp_path):
    spec = good()
    spec["held_out"] = [
        {"question": f"Is it {one}?"} | {"matching": "Yes", "not_matching": "No"}
        for one in range(10)
    ]

    assert spec_warnings(load_spec(write(tmp_path, spec))) == ()


# Weight.

LIGHT = "import sys, caa_harness.spec as s; {}; print(sorted({{'numpy','scipy','torch','jsonschema'}} & set(sys.modules)))"  # noqa: E501


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [("0", "[]"), ("s.load_spec(sys.argv[1])", "['jsonschema']"), ("import numpy", "['numpy']")],
)
def test_specs_import_nothing_heavy(statement, loaded):
    path = str(GOOD / "sycophancy.behavior.json")
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(statement), path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout.strip() == loaded


def test_a_spec_is_written_back_as_it_was_read(tmp_path):
    spec = load_spec(GOOD / "sycophancy.behavior.json")

    again = load_spec(write(tmp_path, spec_json(spec)))

    assert again.digest == spec.digest
    assert spec_json(again) == spec_json(spec)
    assert schema_accepts(spec_json(spec))
