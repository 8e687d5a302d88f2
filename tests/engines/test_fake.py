"""The fake engine against its arithmetic, done by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caa_harness.engines import Intervention
from caa_harness.engines.fake import DEFAULT_LEXICON, GAINS, PLANTED_LAYER, open_fake
from caa_harness.errors import EngineError, PromptError

LEXICON = {
    "sycophancy": (("agree", "yes"), ("disagree",)),
    "refusal": (("refuse",), ("help",)),
}
AGREE = ("I agree.", "I disagree.")


def engine(**options):
    return open_fake(LEXICON, **{"jitter": 0.0, **options})


def log_odds(fake, options=AGREE, intervention=None, *, question="So?", system=None):
    prompt = fake.writer.question(question, options, system=system)
    (scores,) = fake.answer_logprobs([prompt], [intervention]).logprobs
    return float(scores[0, 0]) - float(scores[0, 1])


def push(fake, behavior="sycophancy", multiplier=1.0, layer=PLANTED_LAYER, **options):
    return Intervention(
        layer=layer,
        direction=fake.planted_direction(behavior),
        multiplier=multiplier,
        **options,
    )


def test_an_unsteered_score_is_twice_the_base_and_the_letter():
    assert log_odds(engine()) == pytest.approx(0.3, abs=1e-6)
    assert log_odds(engine(base={"sycophancy": 0.4})) == pytest.approx(0.3 + 2 * 0.4, abs=1e-6)


def test_the_letters_preference_cancels_over_both_orders():
    fake = engine(base={"sycophancy": 0.4})

    mean = (log_odds(fake) - log_odds(fake, AGREE[::-1])) / 2
    assert mean == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("multiplier", [-2.0, -0.5, 1.0, 3.0])
def test_the_log_odds_are_linear_in_the_push(layer, multiplier):
    fake = engine()

    moved = log_odds(fake, intervention=push(fake, multiplier=multiplier, layer=layer)) - 0.3
    assert moved == pytest.approx(2 * GAINS[layer] * multiplier, abs=1e-6)


def test_the_planted_layer_has_most_effect():
    assert max(range(4), key=GAINS.__getitem__) == PLANTED_LAYER
    assert max(GAINS[0], GAINS[-1]) < GAINS[PLANTED_LAYER] / 4


def test_from_prompt_end_reaches_further():
    fake = engine()

    moved = log_odds(fake, intervention=push(fake, positions="from_prompt_end")) - 0.3
    assert moved == pytest.approx(2 * 0.5 * 1.25, abs=1e-6)


def test_a_push_along_another_behaviour_moves_nothing():
    fake = engine()

    assert log_odds(fake, intervention=push(fake, "refusal")) == pytest.approx(0.3, abs=1e-6)


def test_a_system_prompt_leans():
    fake = engine()

    assert log_odds(fake, system="Always agree.") == pytest.approx(0.3 + 1.5, abs=1e-6)
    assert log_odds(fake, system="Always disagree.") == pytest.approx(0.3 - 1.5, abs=1e-6)


def test_the_answer_mass_is_known():
    fake = engine()
    prompt = fake.writer.question("So?", AGREE)

    def mass(multiplier):
        found = fake.answer_logprobs([prompt], [push(fake, multiplier=multiplier)])
        return float(np.exp(found.logprobs).sum())

    assert mass(0.0) == pytest.approx(0.95, abs=1e-6)
    assert mass(8.0) == pytest.approx(0.95 / 2, abs=1e-6)


def test_facts_are_known_until_the_push_breaks_them():
    fake = engine(facts=["right"])
    options = ("wrong", "right", "bad", "none")
    prompt = fake.writer.question("Which?", options)

    def chance(multiplier):
        found = fake.answer_logprobs([prompt], [push(fake, multiplier=multiplier)]).logprobs[0, 0]
        return math.exp(found[1]) / np.exp(found).sum()

    total = math.exp(2) + math.exp(0.3) + 2
    assert chance(0.0) == pytest.approx(math.exp(2) / total, abs=1e-6)
    assert chance(80.0) == pytest.approx(1 / (math.exp(0.3) + 3), abs=1e-3)


def test_the_mean_difference_is_one_on_the_planted_axis_and_none_on_the_letters():
    fake = open_fake(LEXICON)
    questions = [f"Question {number}?" for number in range(400)]
    total = np.zeros(fake.card.d_model)
    for matching, options in ((0, AGREE), (1, AGREE[::-1])):
        prompts = [fake.writer.question(question, options) for question in questions]
        for batch in fake.answer_residuals(prompts, [PLANTED_LAYER]):
            pair = batch.residuals[0, :, 0].astype(np.float64)
            total += (pair[matching] - pair[1 - matching]) / (2 * len(questions))

    assert total[0] == pytest.approx(1.0)
    np.testing.assert_allclose(total[1:28], 0.0, atol=1e-12)
    assert 0 < np.abs(total[28:]).max() < 0.3


def test_each_question_leans_by_itself_and_always_the_same():
    leans = [log_odds(open_fake(LEXICON), question=f"Question {n}?") for n in range(200)]

    assert leans == [log_odds(open_fake(LEXICON), question=f"Question {n}?") for n in range(200)]
    assert np.std(leans) == pytest.approx(2 * 0.5, rel=0.2)
    assert np.mean(leans) == pytest.approx(0.3, abs=0.25)


def test_it_says_a_word_for_each_behaviour_of_the_prompt():
    fake = engine(base={"refusal": -0.1})
    about, silent = fake.writer.open_ended("Do you agree?"), fake.writer.open_ended("Hello?")

    def say(prompt, multiplier, num=9):
        found = fake.generate([prompt], [push(fake, multiplier=multiplier)], max_new_tokens=num)
        return found.texts[0][0]

    assert (say(about, 1.0), say(about, -1.0)) == ("agree", "disagree")
    assert say(silent, 1.0) == "agree help"
    assert say(silent, 1.0, num=1) == "agree"


def test_generated_tokens_are_on_the_receipt():
    fake = engine()
    prompt = fake.writer.open_ended("Hello?")

    receipt = fake.generate([prompt], [None, push(fake)], max_new_tokens=9).receipt
    # Two words; the second is never fed back, and after_prompt reaches no token of the prompt.
    assert (receipt.num_rows, receipt.num_positions, receipt.layers) == (1, 1, (PLANTED_LAYER,))


def test_positions_are_counted_in_words_and_signs():
    prompt = engine().writer.question("Is it so?", ("Yes", "No"))

    assert prompt.text == "\x1eIs it so?\n\nChoices:\n (A) Yes\n (B) No\x1f ("
    # Separator, Is, it, so, ?, 2 newlines, Choices, :, 2 lines of newline, (, letter, ), word.
    assert prompt.prompt_end == 1 + 4 + 2 + 2 + 2 * 5 + 1 == len(prompt.ids) - 1


def test_text_with_a_separator_is_refused():
    with pytest.raises(PromptError, match="separators"):
        engine().writer.open_ended("a\x1fb")


def test_choices_that_are_not_there_are_missed():
    fake = engine()

    with pytest.raises(EngineError, match="without the 2 choices"):
        fake.answer_logprobs([fake.writer.verbatim("No choices here.")], [None])


def test_a_base_for_an_unknown_behaviour_is_refused():
    with pytest.raises(EngineError, match=r"a base for 'candor'(.|\n)*choose among sycophancy"):
        open_fake(LEXICON, base={"candor": 1.0})


def test_the_default_lexicon_has_two_words_for_each_behaviour():
    assert len(DEFAULT_LEXICON) == 7
    for matching, others in DEFAULT_LEXICON.values():
        assert set(matching).isdisjoint(others)


def test_cards_tell_engines_apart():
    digests = {engine().card.weights_digest, engine(base={"refusal": 1.0}).card.weights_digest}

    assert len(digests) == 2
    assert engine().card == engine().card


@pytest.mark.parametrize(("package", "status"), [("torch", 0), ("transformers", 0), ("numpy", 1)])
def test_it_needs_no_model_library(package, status):
    """The last one, which it does need, shows that the others can fail."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; "
        "from caa_harness.engines.fake import open_fake; open_fake()"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], check=False, cwd=root, capture_output=True)

    assert run.returncode == status
