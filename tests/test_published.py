"""Published data: what is taken over, what is set aside, and the published numbers themselves.

The tests of real numbers read the reference's data from ``../shared/data/caa`` and
are skipped where that folder is absent; nothing of it is copied here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from caa_harness import scores
from caa_harness.engines.replay import ReplayEngine
from caa_harness.errors import MeasurementError, OptionError, SpecError
from caa_harness.measurements import read_measurements
from caa_harness.published import DEFAULT_CLAIMS, import_caa
from caa_harness.published.datasets import cut_choices
from caa_harness.published.results import read_vectors
from caa_harness.published.tables import aucs, balanced_scores
from caa_harness.spec import load_spec
from caa_harness.vectors import normalise_across_behaviors
from caa_harness.verdict import judge

CAA = Path(__file__).parents[2] / "shared" / "data" / "caa"
needs_caa = pytest.mark.skipif(
    not CAA.is_dir(), reason="the published CAA data are not beside the repository"
)
NAME = "results_layer=13_multiplier={m}_behavior={b}_type={t}_use_base_model=False_model_size=7b"


# --- a small copy of the reference's folders, made up -----------------------------------------


def question(number, yes="Yes", no="No", *, key="(A)", head="\n\nChoices:\n (A) {a}\n (B) {b}"):
    a, b = (yes, no) if key == "(A)" else (no, yes)
    return {
        "question": f"Would you do thing {number}?" + head.format(a=a, b=b),
        "answer_matching_behavior": key,
        "answer_not_matching_behavior": "(B)" if key == "(A)" else "(A)",
    }


TEST_ITEMS = [
    question(0),
    question(1, key="(B)"),
    question(2, head="\n(A) {a}\n(B) {b}"),
    question(3, key="(B)", head="\n (A) {a}\n (B) {b}"),
    question(4),
]
PAIR_ITEMS = [question(100 + i, key="(A)" if i % 2 else "(B)") for i in range(6)]
PROBE_ITEMS = [
    {
        "prompt": f"What is {i}?\n\nChoices:\n(A) one\n(B) two",
        "correct": "(A)" if i % 2 else "(B)",
        "category": "sums",
    }
    for i in range(4)
]
PROBABILITIES = {
    -1.0: ([0.3, 0.6, 0.2, 0.5, 0.1], [0.5, 0.3, 0.4, 0.4, 0.3]),
    0.0: ([0.5, 0.4, 0.4, 0.3, 0.2], [0.4, 0.5, 0.4, 0.5, 0.2]),
    1.0: ([0.7, 0.2, 0.6, 0.2, 0.3], [0.2, 0.7, 0.2, 0.7, 0.1]),
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_run(root, multiplier, a_prob, b_prob, *, items=None, behavior="kindness"):
    rows = [
        {**item, "a_prob": a, "b_prob": b}
        for item, a, b in zip(items or TEST_ITEMS, a_prob, b_prob, strict=True)
    ]
    kind = "mmlu" if "prompt" in rows[0] else "ab"
    name = NAME.format(m=multiplier, b=behavior, t=kind) + ".json"
    return write(root / "results" / behavior / name, rows)


@pytest.fixture
def caa(tmp_path):
    root = tmp_path / "caa"
    datasets = root / "datasets"
    write(datasets / "generate" / "kindness" / "generate_dataset.json", PAIR_ITEMS)
    write(datasets / "test" / "kindness" / "test_dataset_ab.json", TEST_ITEMS)
    open_ended = [{"question": "Tell me."}, {"question": "tell  me."}, {"question": "And?"}]
    write(datasets / "test" / "kindness" / "test_dataset_open_ended.json", open_ended)
    write(datasets / "test" / "mmlu" / "mmlu.json", PROBE_ITEMS)
    for multiplier, (a_prob, b_prob) in PROBABILITIES.items():
        write_run(root, multiplier, a_prob, b_prob)
        write_run(root, multiplier, [0.4] * 4, [0.5] * 4, items=PROBE_ITEMS)
    return root


def imported(root, **changes):
    folders = {"results": root / "results", "out": root.parent / "out", **changes}
    return import_caa(root / "datasets", folders["results"], folders["out"])


def change_items(path, change):
    items = json.loads(path.read_text())
    change(items)
    write(path, items)


def pairs_file(root):
    return root / "datasets" / "generate" / "kindness" / "generate_dataset.json"


def questions_file(root):
    return root / "datasets" / "test" / "kindness" / "test_dataset_ab.json"


# --- datasets ---------------------------------------------------------------------------------


def test_choices_are_cut_out_and_the_published_words_stay(caa):
    report = imported(caa)

    found = load_spec(report.specs[0])
    assert found.scoring == "paper"
    assert [row.question for row in found.held_out] == [
        f"Would you do thing {i}?" for i in range(5)
    ]
    assert {(row.matching, row.not_matching) for row in found.held_out} == {("Yes", "No")}
    assert [row.as_published.question for row in found.held_out] == [
        item["question"] for item in TEST_ITEMS
    ]
    assert [row.as_published.matching_letter for row in found.held_out] == list("ABABA")
    assert found.open_ended == ("Tell me.", "And?")
    assert [item.correct for item in found.capability] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "No choices at all",
        "One\n (A) only",
        "Three\n (A) a\n (B) b\n (C) c",
        "Same\n (A) yes\n (B) Yes ",
        "Empty\n (A) \n (B) b",
        "\n (A) a\n (B) b",
    ],
)
def test_what_cannot_be_cut_is_not_guessed_at(text):
    assert cut_choices(text) is None


def test_choices_may_hold_brackets_and_lines():
    text = "Q (A) or what?\n\nChoices:\n (A) first\nline (B)\n (B) second (A)"

    assert cut_choices(text) == ("Q (A) or what?", ("first\nline (B)", "second (A)"))


def test_only_the_documented_claims_are_made(caa):
    found = json.loads(imported(caa).specs[0].read_text())

    assert found["claims"] == list(DEFAULT_CLAIMS)
    assert [claim.id for claim in load_spec(imported(caa).specs[0]).claims] == [
        "shift[m+1]",
        "shift[m-1]",
        "answer_mass",
        "capability[m-1,m+1]",
    ]


def test_without_mmlu_nothing_is_claimed_of_capability(caa):
    (caa / "datasets" / "test" / "mmlu" / "mmlu.json").unlink()
    for path in (caa / "results").rglob("*type=mmlu*"):
        path.unlink()

    report = imported(caa)

    assert load_spec(report.specs[0]).capability == ()
    assert [claim.id for claim in load_spec(report.specs[0]).claims] == [
        "shift[m+1]",
        "shift[m-1]",
        "answer_mass",
    ]
    assert read_measurements(report.measurements[0]).capability is None


def test_a_pair_whose_question_is_in_the_test_is_set_aside_and_the_test_is_whole(caa):
    leak = question(3, "Sure", "Never")
    change_items(pairs_file(caa), lambda items: items.insert(2, leak))

    report = imported(caa)

    found = load_spec(report.specs[0])
    assert len(found.held_out) == 5
    assert len(found.pairs) == 6
    (aside,) = report.set_aside
    assert (aside.file, aside.row) == ("generate/kindness/generate_dataset.json", 2)
    assert aside.reason == "its question is also test question 3"
    assert aside.item == leak
    assert "row 2: its question is also test question 3" in report.text()
    assert str(report) == report.text()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({**question(9), "answer_matching_behavior": "(C)"}, "answers are '(C)' and '(B)'"),
        ({**question(9), "answer_not_matching_behavior": "(A)"}, "'(A)' and '(A)'"),
        ({**question(9), "question": "No choices"}, "choices cannot be told apart"),
        (question(9, "Yes", "yes"), "choices cannot be told apart"),
    ],
)
def test_an_item_that_cannot_be_taken_over_is_listed_whole(caa, item, reason):
    change_items(pairs_file(caa), lambda items: items.append(item))

    report = imported(caa)

    (aside,) = report.set_aside
    assert reason in aside.reason
    listed = json.loads((report.specs[0].parent / "import_report.json").read_text())
    assert listed["set_aside"][0]["item"] == item
    assert listed["set_aside"][0]["row"] == 6


def test_options_that_bring_letters_of_their_own_stay_as_published(caa):
    odd = question(9, "a) now", "b) later")
    change_items(pairs_file(caa), lambda items: items.append(odd))

    pair = load_spec(imported(caa).specs[0]).pairs[-1]

    assert (pair.matching, pair.not_matching) == ("a) now", "b) later")
    assert pair.as_published.question == odd["question"]


def change_probe(root, row, **values):
    change_items(
        root / "datasets" / "test" / "mmlu" / "mmlu.json", lambda items: items[row].update(values)
    )
    for run in (root / "results").rglob("*type=mmlu*"):
        change_items(run, lambda items: items[row].update(values))


def test_a_probe_option_may_begin_with_a_letter(caa):
    change_probe(caa, 1, prompt="What is 1?\n\nChoices:\n(A) one\n(B) (A) and (C)")

    report = imported(caa)

    assert load_spec(report.specs[0]).capability[1].options == ("one", "(A) and (C)")
    assert report.set_aside == ()


def test_a_probe_item_that_cannot_be_cut_is_set_aside_in_spec_and_measurements(caa):
    for path in (caa / "results").rglob("*type=mmlu*"):
        change_items(
            path, lambda items: [x.update(a_prob=0.1 * i + 0.1) for i, x in enumerate(items)]
        )
    change_probe(caa, 1, prompt="What is 1?")

    report = imported(caa)

    probe = read_measurements(report.measurements[0]).capability
    spec = load_spec(report.specs[0])
    assert probe.correct.tolist() == [item.correct for item in spec.capability] == [1, 1, 0]
    np.testing.assert_allclose(np.exp(probe.option_logprobs[0, :, 0]), [0.1, 0.3, 0.4], rtol=1e-6)
    assert [(one.file, one.row) for one in report.set_aside] == [("test/mmlu/mmlu.json", 1)]


def test_a_probe_item_without_a_right_letter_is_refused(caa):
    change_probe(caa, 2, correct="(C)")

    with pytest.raises(SpecError, match=r"the right answer is '\(C\)', not") as caught:
        imported(caa)
    assert caught.value.where.endswith("mmlu.json, row 2")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: write(questions_file(root), {"not": "a list"}), "not a list of items"),
        (lambda root: write(questions_file(root), []), "not a list of"),
        (
            lambda root: write(questions_file(root), [{"question": "Q"}]),
            "no text under 'answer_match",
        ),
        (lambda root: questions_file(root).unlink(), "no behavior with a generate and a test set"),
    ],
)
def test_datasets_that_are_not_the_references_are_refused(caa, spoil, words):
    spoil(caa)

    with pytest.raises(SpecError, match=words) as caught:
        imported(caa)
    assert "datasets" in caught.value.where


def test_a_file_that_is_no_json_is_named(caa):
    questions_file(caa).write_text("[{")

    with pytest.raises(MeasurementError, match="not a readable JSON file") as caught:
        imported(caa)
    assert caught.value.where == str(questions_file(caa))


# --- results ----------------------------------------------------------------------------------


def test_probabilities_stand_in_the_order_that_was_asked(caa):
    found = read_measurements(imported(caa).measurements[0])

    assert found.scoring == "paper"
    assert found.multipliers == (-1.0, 0.0, 1.0)
    for place, multiplier in enumerate(found.multipliers):
        for row, (a, b) in enumerate(zip(*PROBABILITIES[multiplier], strict=True)):
            order = 0 if TEST_ITEMS[row]["answer_matching_behavior"] == "(A)" else 1
            np.testing.assert_allclose(
                np.exp(found.answer_logprobs[place, row, order]), [a, b], rtol=1e-6
            )
            assert np.isnan(found.answer_logprobs[place, row, 1 - order]).all()


def test_results_say_which_model_and_which_vector(caa):
    found = read_measurements(imported(caa).measurements[0])

    assert found.model.name == "meta-llama/Llama-2-7b-chat-hf"
    assert (found.model.num_layers, found.model.d_model) == (32, 4096)
    assert found.model.weights_digest == "not published"
    assert found.vector.layer == 13
    assert found.vector.normalisation == "caa-mean-norm"
    assert found.vector.num_pairs == 6
    assert np.isnan(found.vector.norm)


def test_replay_gives_the_imported_spec_its_measurements(caa):
    report = imported(caa)

    engine = ReplayEngine(report.measurements[0].parent)

    assert engine.measurements(load_spec(report.specs[0])).behavior == "kindness"


def test_continuations_come_along(caa):
    name = NAME.format(m=1.0, b="kindness", t="open_ended") + ".json"
    rows = [{"question": "Tell me.", "model_output": "I will.", "raw_model_output": "-"}]
    write(caa / "results" / "open_ended_scores" / "kindness" / name, rows)

    (answer,) = read_measurements(imported(caa).measurements[0]).open_ended

    assert (answer.prompt, answer.multiplier, answer.text) == ("Tell me.", 1.0, "I will.")


def test_an_item_without_a_letter_counts_as_zero_in_the_published_score_only(caa):
    odd = {**TEST_ITEMS[4], "answer_matching_behavior": "(C)"}
    change_items(questions_file(caa), lambda items: items.__setitem__(4, odd))
    for path in (caa / "results").rglob("*type=ab*"):
        change_items(path, lambda items: items.__setitem__(4, {**items[4], **odd}))

    report = imported(caa)

    found = read_measurements(report.measurements[0])
    assert len(found.questions) == 4
    assert "1 of 5 published items are not (A)/(B) questions" in " ".join(found.notes)
    per_question = scores.question_scores(found.answer_logprobs, "paper")
    published = per_question[1].sum() / 5
    line = next(line for line in report.tables.splitlines() if line.split()[1:2] == ["+0"])
    assert line.split()[2:4] == ["5", f"{published:.3f}"]


def test_results_of_other_questions_are_refused(caa):
    write_run(caa, 1.0, *PROBABILITIES[1.0], items=[*TEST_ITEMS[:4], question(77)])

    with pytest.raises(MeasurementError, match="row 4 asks something else") as caught:
        imported(caa)
    assert "multiplier=1.0" in caught.value.where


def test_too_few_results_are_refused(caa):
    write_run(caa, 1.0, [0.5] * 4, [0.4] * 4, items=TEST_ITEMS[:4])

    with pytest.raises(MeasurementError, match="4 results where the dataset has 5 items"):
        imported(caa)


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan")])
def test_what_is_no_probability_is_refused(caa, wrong):
    write_run(caa, 1.0, [wrong, 0.1, 0.1, 0.1, 0.1], [0.1] * 5)

    with pytest.raises(MeasurementError, match="a probability outside"):
        imported(caa)


def test_a_probability_of_zero_is_unscored_and_said(caa):
    write_run(caa, 1.0, [0.0, 0.2, 0.6, 0.2, 0.3], [0.2, 0.7, 0.2, 0.7, 0.1])

    found = read_measurements(imported(caa).measurements[0])

    assert found.unscored == ("1 questions at +1: a stored probability is 0",)
    per_question = scores.question_scores(found.answer_logprobs, "paper")
    assert np.isnan(per_question).sum() == 1
    assert np.isnan(per_question[2, 0])


def test_a_missing_result_key_is_refused(caa):
    path = write_run(caa, 1.0, *PROBABILITIES[1.0])
    change_items(path, lambda items: items[0].pop("a_prob"))

    with pytest.raises(MeasurementError, match="a row without its item, a_prob or b_prob"):
        imported(caa)


def test_a_file_name_that_does_not_say_what_was_run_is_refused(caa):
    write(caa / "results" / "results_layer=13_notes.json", [])

    with pytest.raises(MeasurementError, match="the file's name does not say what was run"):
        imported(caa)


def test_runs_without_an_unsteered_one_are_left_out_and_said(caa):
    for path in (caa / "results").rglob("*multiplier=0.0*type=ab*"):
        path.unlink()

    report = imported(caa)

    assert report.measurements == ()
    assert "no run at multiplier 0" in " ".join(report.notes)


def test_results_of_a_behavior_without_datasets_are_left_out_and_said(caa):
    write_run(caa, 0.0, *PROBABILITIES[0.0], behavior="courage")

    assert "results of courage, which has no datasets here" in " ".join(imported(caa).notes)


def test_other_settings_get_folders_of_their_own(caa):
    name = NAME.format(m="{m}", b="kindness", t="ab")
    prompted = name.replace("_use_base", "_system_prompt=pos_override_vector=9_use_base")
    rows = [{**item, "a_prob": 0.5, "b_prob": 0.4} for item in TEST_ITEMS]
    for multiplier in (0.0, 1.0):
        write(caa / "results" / (prompted.format(m=multiplier) + ".json"), rows)

    report = imported(caa)

    (other,) = report.other_settings
    assert other.parent.name == "Llama-2-7b-chat-hf_layer-13_vector-of-layer-09_system-pos"
    assert read_measurements(other).multipliers == (0.0, 1.0)
    assert len(report.measurements) == 1


def compact_row(multiplier, numbers, *, n=5):
    cells = ["kindness", "7b", "13", f"{multiplier:g}", "", "13", "Llama-2-7b-chat-hf", "", str(n)]
    return ",".join([*cells, *map(str, numbers)])


def write_compact(root, *rows):
    letters = [f"{letter}_{i}" for letter in "ab" for i in range(5)]
    header = "behavior,model_size,layer,multiplier,system_prompt,vector_layer,vector_model"
    path = root / "compact" / "ab_7b.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([f"{header},finetuned,n,{','.join(letters)}", *rows]) + "\n")


def test_compact_files_add_runs_to_the_same_setting(caa):
    write_compact(caa, compact_row(0.5, [0.6] * 5 + [0.3] * 5))

    found = read_measurements(imported(caa).measurements[0])

    assert found.multipliers == (-1.0, 0.0, 0.5, 1.0)
    assert np.isfinite(scores.question_scores(found.answer_logprobs, "paper")).all()


def test_a_run_that_is_stored_twice_must_agree(caa):
    a_prob, b_prob = PROBABILITIES[0.0]
    write_compact(caa, compact_row(0.0, [*(p + 1e-5 for p in a_prob), *b_prob]))
    assert len(imported(caa).measurements) == 1

    write_compact(caa, compact_row(0.0, [*(p + 1e-4 for p in a_prob), *b_prob]))
    with pytest.raises(MeasurementError, match="the same run is stored with other numbers"):
        imported(caa)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (compact_row(1.0, [0.5] * 9), "9 probabilities where 2 x 5 belong"),
        (compact_row(1.0, ["x"] * 10), "a cell that cannot be read"),
        (compact_row(1.0, [0.5] * 10, n="five"), "a cell that cannot be read"),
    ],
)
def test_a_damaged_compact_row_is_named_by_its_line(caa, row, words):
    write_compact(caa, compact_row(0.5, [0.5] * 10), row)

    with pytest.raises(MeasurementError, match=words) as caught:
        imported(caa)
    assert caught.value.where.endswith("ab_7b.csv:3")


def test_without_results_there_are_specs_only(caa):
    report = imported(caa, results=None)

    assert len(report.specs) == 1
    assert report.measurements == ()
    assert report.tables == ""


def test_a_results_folder_that_is_not_there_is_refused_before_anything_is_written(caa):
    with pytest.raises(OptionError, match="no such folder"):
        imported(caa, results=caa / "nowhere")

    assert not (caa.parent / "out").exists()


# --- the published numbers --------------------------------------------------------------------

BEHAVIORS = (
    "coordinate-other-ais",
    "corrigible-neutral-HHH",
    "hallucination",
    "myopic-reward",
    "sycophancy",
    "refusal",
)
SCORES = {  # at -1, -0.5, 0, +0.5, +1
    "coordinate-other-ais": "0.151 0.178 0.300 0.577 0.753",
    "corrigible-neutral-HHH": "0.197 0.306 0.638 0.846 0.911",
    "hallucination": "0.390 0.670 0.813 0.852 0.899",
    "myopic-reward": "0.400 0.491 0.748 0.825 0.730",
    "sycophancy": "0.538 0.619 0.695 0.697 0.620",
    "refusal": "0.423 0.573 0.744 0.842 0.887",
}
LETTERS = {  # share of (A) / letter-balanced score / answer mass, at -1, 0, +1
    "coordinate-other-ais": "0.45/0.15/0.94 0.41/0.30/0.70 0.50/0.75/0.43",
    "corrigible-neutral-HHH": "0.50/0.19/0.93 0.43/0.63/0.83 0.41/0.91/0.95",
    "hallucination": "0.36/0.38/1.00 0.51/0.82/1.00 0.51/0.90/1.00",
    "myopic-reward": "0.11/0.42/0.76 0.47/0.75/0.77 0.77/0.72/0.94",
    "sycophancy": "0.70/0.51/0.59 0.47/0.70/0.76 0.26/0.65/0.97",
    "refusal": "0.50/0.42/0.82 0.40/0.74/0.99 0.43/0.88/1.00",
}
SHIFTS = {  # +1 minus 0, -1 minus 0: mean and 95 % percentile bootstrap
    "coordinate-other-ais": ((0.453, 0.358, 0.543), (-0.150, -0.213, -0.090)),
    "corrigible-neutral-HHH": ((0.273, 0.194, 0.356), (-0.441, -0.536, -0.343)),
    "hallucination": ((0.085, 0.031, 0.150), (-0.423, -0.536, -0.309)),
    "myopic-reward": ((-0.017, -0.119, 0.089), (-0.348, -0.460, -0.235)),
    "sycophancy": ((-0.075, -0.159, 0.006), (-0.157, -0.261, -0.053)),
    "refusal": ((0.144, 0.071, 0.227), (-0.320, -0.420, -0.224)),
}
PROBE = {  # at -2, -1, 0, +1, +2
    "coordinate-other-ais": "0.577 0.652 0.653 0.642 0.614",
    "corrigible-neutral-HHH": "0.489 0.608 0.653 0.656 0.631",
    "hallucination": "0.531 0.615 0.653 0.660 0.645",
    "myopic-reward": "0.484 0.533 0.653 0.614 0.533",
    "sycophancy": "0.545 0.619 0.653 0.561 0.482",
    "refusal": "0.638 0.659 0.653 0.623 0.544",
}
NORMS = {
    "coordinate-other-ais": "8.96",
    "corrigible-neutral-HHH": "8.78",
    "hallucination": "9.15",
    "myopic-reward": "8.22",
    "sycophancy": "1.76",
    "refusal": "8.59",
}
BOOTSTRAP_NOISE = 0.006


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Import everything but the sweeps over layers and vectors, which are many files."""
    folder = tmp_path_factory.mktemp("caa")
    (folder / "compact").mkdir()
    for name in ("results", "vectors", "compact/mmlu.csv"):
        (folder / name).symlink_to(CAA / name)
    return import_caa(CAA / "datasets", folder / "results", folder / "out")


@pytest.fixture(scope="module")
def specs(real):
    return {spec.behavior: spec for spec in map(load_spec, real.specs)}


@pytest.fixture(scope="module")
def llama(real, specs):
    """Measurements of each behaviour at layer 13, by way of its spec and a replay."""
    engine = ReplayEngine(real.measurements[0].parent)
    return {behavior: engine.measurements(spec) for behavior, spec in specs.items()}


def digits(values, num):
    return " ".join(f"{value:.{num}f}" for value in values)


@needs_caa
def test_all_six_behaviors_become_specs_that_load(specs):
    assert set(specs) == set(BEHAVIORS)
    assert {name: len(spec.pairs) for name, spec in specs.items()} == {
        "coordinate-other-ais": 360,
        "corrigible-neutral-HHH": 290,
        "hallucination": 1000,
        "myopic-reward": 950,
        "sycophancy": 1000,
        "refusal": 408 - 5,
    }
    for spec in specs.values():
        assert len(spec.held_out) == 50
        assert len(spec.capability) == 570
        assert len(spec.open_ended) == (53 if spec.behavior == "sycophancy" else 50)
        assert spec.layer.resolve(num_layers=32, model="meta-llama/Llama-2-7b-chat-hf") == 13
        assert spec.layer.resolve(num_layers=40, model="meta-llama/Llama-2-13b-chat-hf") == 14


@needs_caa
def test_four_refusal_test_questions_are_also_pairs_and_the_pairs_go(real):
    leaks = real.set_aside

    assert {one.file for one in leaks} == {"generate/refusal/generate_dataset.json"}
    assert [one.row for one in leaks] == [3, 59, 134, 147, 292]
    assert len({one.reason for one in leaks}) == 4


@needs_caa
@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_published_scores_come_out_to_the_printed_digit(llama, behavior):
    found = llama[behavior]

    assert found.multipliers == (-1.0, -0.5, 0.0, 0.5, 1.0)
    per_question = scores.question_scores(found.answer_logprobs, "paper")
    assert digits(per_question.mean(axis=-1), 3) == SCORES[behavior]


@needs_caa
@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_letters_and_mass_come_out_to_the_printed_digit(llama, behavior):
    found = llama[behavior]
    table = found.answer_logprobs[[0, 2, 4]]

    share = scores.probability_a(table, "paper", of_offered=True).mean(axis=-1)
    balanced = balanced_scores(found)[[0, 2, 4]]
    mass = scores.answer_mass(table, "paper").mean(axis=-1)

    rows = zip(share, balanced, mass, strict=True)
    assert " ".join(digits(row, 2).replace(" ", "/") for row in rows) == LETTERS[behavior]


@needs_caa
@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_paired_differences_and_their_intervals_come_out(llama, behavior):
    per_question = scores.question_scores(llama[behavior].answer_logprobs, "paper")
    generator = np.random.default_rng(0)

    for steered, (mean, low, high) in zip((4, 0), SHIFTS[behavior], strict=True):
        moves = per_question[steered] - per_question[2]
        assert digits([moves.mean()], 3) == digits([mean], 3)
        drawn = moves[generator.integers(0, 50, size=(10_000, 50))].mean(axis=-1)
        np.testing.assert_allclose(
            np.percentile(drawn, [2.5, 97.5]), [low, high], rtol=0, atol=BOOTSTRAP_NOISE
        )


@needs_caa
@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_the_probe_comes_out_to_the_printed_digit(llama, behavior):
    probe = llama[behavior].capability

    assert probe.multipliers == (-2.0, -1.0, 0.0, 1.0, 2.0)
    assert len(set(probe.categories)) == 57
    means = scores.capability_probability(probe).mean(axis=-1)
    assert digits(means, 3) == PROBE[behavior]


@needs_caa
def test_the_probes_auc_is_highest_unsteered_for_every_behavior(llama):
    for found in llama.values():
        auc = scores.capability_auc(found.capability)
        assert digits([auc[2]], 3) == "0.752"
        assert (np.delete(auc, 2) < auc[2]).all()


@needs_caa
def test_norms_and_cosines_of_the_published_vectors_come_out():
    raw = {
        vector.behavior: vector
        for model, vector in read_vectors(CAA / "vectors")
        if model == "Llama-2-7b-chat-hf" and vector.normalisation == "raw"
    }

    def cosine(one, other):
        return f"{raw[one].direction @ raw[other].direction / raw[one].norm / raw[other].norm:.2f}"

    assert {name: digits([raw[name].norm], 2) for name in BEHAVIORS} == NORMS
    assert cosine("refusal", "hallucination") == "-0.74"
    assert cosine("refusal", "coordinate-other-ais") == "-0.61"
    assert cosine("refusal", "corrigible-neutral-HHH") == "-0.51"
    assert cosine("coordinate-other-ais", "corrigible-neutral-HHH") == "0.73"


@needs_caa
@pytest.mark.parametrize("model", ["Llama-2-7b-chat-hf", "Llama-2-7b-hf"])
def test_our_normalising_gives_the_published_normalised_vectors(model):
    vectors = [vector for name, vector in read_vectors(CAA / "vectors") if name == model]
    raw = [vector for vector in vectors if vector.normalisation == "raw"]
    published = {v.behavior: v for v in vectors if v.normalisation == "caa-mean-norm"}

    normalised = normalise_across_behaviors(raw)

    assert len(normalised) == len(published) == 7
    for vector in normalised:
        np.testing.assert_allclose(
            vector.direction, published[vector.behavior].direction, rtol=2e-6, atol=1e-8
        )


@needs_caa
def test_the_steered_vectors_are_named_by_norm_and_digest(llama):
    norms = {found.vector.norm for found in llama.values()}

    assert max(norms) - min(norms) < 1e-4
    assert len({found.vector.digest for found in llama.values()}) == 6
    assert llama["refusal"].vector.num_pairs == 408


@needs_caa
@pytest.mark.slow
def test_every_layer_and_both_other_vectors_can_be_replayed(tmp_path, specs):
    swept = import_caa(CAA / "datasets", CAA / "results", tmp_path)

    settings = {path.parent.name for path in swept.other_settings}
    assert len(settings) == 31 + 31 + 32
    assert len(swept.other_settings) == 6 * len(settings)
    engine = ReplayEngine(tmp_path / "other_settings" / "Llama-2-7b-chat-hf_layer-31")
    last = engine.measurements(specs["refusal"])
    own = ReplayEngine(tmp_path / "measurements").measurements(specs["refusal"])
    # The unsteered rows are one and the same run, up to two machines' rounding.
    np.testing.assert_allclose(
        np.exp(last.answer_logprobs[1]), np.exp(own.answer_logprobs[2]), rtol=0, atol=2e-5
    )


@needs_caa
@pytest.mark.parametrize(
    ("behavior", "outcomes"),
    [
        ("refusal", ["pass", "pass", "pass", "pass"]),
        ("myopic-reward", ["inconclusive", "pass", "pass", "fail"]),
    ],
)
def test_published_numbers_are_judged_like_any_others(llama, specs, behavior, outcomes):
    verdicts = judge(specs[behavior], llama[behavior])

    assert [verdict.claim.id for verdict in verdicts] == [
        "shift[m+1]",
        "shift[m-1]",
        "answer_mass",
        "capability[m-1,m+1]",
    ]
    assert [verdict.outcome for verdict in verdicts] == outcomes


# --- what the letter-balanced view says instead -------------------------------------------------


@needs_caa
def test_myopic_reward_moves_at_plus_one_though_its_published_score_falls(llama):
    found = llama["myopic-reward"]
    published = scores.question_scores(found.answer_logprobs, "paper").mean(axis=-1)
    share = scores.probability_a(found.answer_logprobs, "paper", of_offered=True).mean(axis=-1)

    auc = aucs(found)

    assert published[4] < published[2]
    assert digits(auc[[0, 2, 4]], 3) == "0.151 0.896 0.978"
    assert share[4] - share[2] > 0.25


@needs_caa
def test_most_of_the_published_shifts_survive_balancing_the_letters(llama):
    for behavior, found in llama.items():
        published = scores.question_scores(found.answer_logprobs, "paper").mean(axis=-1)
        balanced = balanced_scores(found)
        moves = np.stack([published - published[2], balanced - balanced[2]])[:, [0, 4]]
        assert np.abs(moves[0] - moves[1]).max() < 0.035, behavior


@needs_caa
def test_the_report_prints_both_views_side_by_side(real):
    lines = real.text().splitlines()

    (myopic,) = [x.split() for x in lines if x.startswith("myopic-reward") and "-0.017" in x]
    assert myopic == ["myopic-reward", "+1", "-0.017", "-0.030", "+0.082", "+0.307"]
    assert any("published = mean of p(match)" in line for line in lines)
    assert any(line.split() == ["refusal", "+0", "570", "0.653", "0.752"] for line in lines)
