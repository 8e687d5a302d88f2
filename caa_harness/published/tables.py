"""Tables of published runs: the score as published, and what the letters add to it.

Measurements in one letter order come in, plain text goes out.  The published
score mixes what the model answers with the letter it likes; a letter-balanced
mean and the AUC of the log-odds show the same runs without a constant liking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from caa_harness import scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float64

    from caa_harness.measurements import Measurements
    from caa_harness.published.results import Run

BASELINE = 0.0

_LEVEL_TITLE = (
    "What was measured (published = mean of p(match) / (p(A) + p(B)); balanced = mean of the"
    " means over (A)- and (B)-items;\nA/(A+B) = mean of p(A) / (p(A) + p(B)))"
)
_SHIFT_TITLE = (
    "What the letters hide: shifts against multiplier 0; letter A = shift of the balanced"
    " mean of p(A) / (p(A) + p(B))"
)
_LEVEL_HEADER = (
    f"{'behavior':<24} {'x':>5} {'n':>4} {'published':>9} {'balanced':>9} {'AUC':>6}"
    f" {'A/(A+B)':>7} {'p(A)+p(B)':>9}"
)


def level_table(shown: Sequence[tuple[Measurements, Mapping[float, Run], Sequence[str]]]) -> str:
    """Every run's published score, letter-balanced score, AUC, p(A) and answer mass."""
    lines = [_LEVEL_TITLE, _LEVEL_HEADER]
    for measurements, runs, keys in shown:
        for place, multiplier in enumerate(measurements.multipliers):
            run = runs[multiplier]
            published = scores.published_score(run.a_prob, run.b_prob, keys)
            answers = measurements.answer_logprobs[place]
            lines.append(
                f"{measurements.behavior:<24} {multiplier:>+5g} {len(keys):>4} {published:>9.3f}"
                f" {balanced_scores(measurements)[place]:>9.3f} {aucs(measurements)[place]:>6.3f}"
                f" {np.nanmean(scores.probability_a(answers, 'paper', of_offered=True)):>7.2f}"
                f" {np.nanmean(scores.answer_mass(answers, 'paper')):>9.2f}"
            )
    return "\n".join(lines)


def shift_table(measured: Sequence[Measurements]) -> str:
    """Shifts against the unsteered run, as published and with the letters balanced."""
    lines = [
        _SHIFT_TITLE,
        f"{'behavior':<24} {'x':>5} {'published':>9} {'balanced':>9} {'AUC':>7} {'letter A':>9}",
    ]
    for measurements in measured:
        views = [
            np.nanmean(scores.question_scores(measurements.answer_logprobs, "paper"), axis=-1),
            balanced_scores(measurements),
            aucs(measurements),
            letter_a_shares(measurements),
        ]
        start = measurements.multipliers.index(BASELINE)
        for place, multiplier in enumerate(measurements.multipliers):
            if place != start:
                published, balanced, auc, letter = (view[place] - view[start] for view in views)
                lines.append(
                    f"{measurements.behavior:<24} {multiplier:>+5g} {published:>+9.3f}"
                    f" {balanced:>+9.3f} {auc:>+7.3f} {letter:>+9.3f}"
                )
    return "\n".join(lines)


def probe_table(measured: Sequence[Measurements]) -> str:
    """Capability probe: probability of the right option, and the letter-free AUC."""
    lines = [
        "What steering costs (probe = mean probability of the right option of two)",
        f"{'behavior':<24} {'x':>5} {'n':>4} {'probe':>9} {'AUC':>6}",
    ]
    for measurements in measured:
        probe = measurements.capability
        if probe is None:
            continue
        means = np.nanmean(scores.capability_probability(probe), axis=-1)
        for multiplier, mean, auc in zip(
            probe.multipliers, means, scores.capability_auc(probe), strict=True
        ):
            lines.append(
                f"{measurements.behavior:<24} {multiplier:>+5g} {len(probe.correct):>4}"
                f" {mean:>9.3f} {auc:>6.3f}"
            )
    return "\n".join(lines) if len(lines) > 2 else ""  # noqa: PLR2004  (its two header lines)


def balanced_scores(measurements: Measurements) -> Float64[np.ndarray, " multiplier"]:
    """Letter-balanced score of one-order measurements, at each multiplier."""
    per_question = scores.question_scores(measurements.answer_logprobs, "paper")
    return np.array(
        [
            scores.letter_balanced(row, scores.matching_is_a(answers))
            for row, answers in zip(per_question, measurements.answer_logprobs, strict=True)
        ]
    )


def aucs(measurements: Measurements) -> Float64[np.ndarray, " multiplier"]:
    """AUC of the log-odds against "the matching answer is (A)", at each multiplier."""
    logodds = scores.one_order_logodds(measurements.answer_logprobs)
    return np.array(
        [
            scores.auc(row, scores.matching_is_a(answers))
            for row, answers in zip(logodds, measurements.answer_logprobs, strict=True)
        ]
    )


def letter_a_shares(measurements: Measurements) -> Float64[np.ndarray, " multiplier"]:
    """Letter-balanced probability of (A) out of the two: 0.5 where no letter is liked."""
    per_question = scores.question_scores(measurements.answer_logprobs, "paper")
    shares = []
    for row, answers in zip(per_question, measurements.answer_logprobs, strict=True):
        is_a = scores.matching_is_a(answers)
        shares.append(scores.letter_balanced(np.where(is_a, row, 1 - row), is_a))
    return np.array(shares)
