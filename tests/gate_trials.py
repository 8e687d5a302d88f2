"""Whole gates on planted measurements: how often seven specs say something wrong at once.

Every claim is put exactly on its bound, where a pass and a fail are equally wrong.
A trial is one release: seven specs of one family, all kinds of claim in each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from planted import (
    Plant,
    answer_mass,
    capability,
    dose_response,
    letter_part,
    level,
    null,
    plant,
    shift,
    spec_of,
    specificity,
)

from caa_harness import scores
from caa_harness.spec import BehaviorSpec
from caa_harness.statistics import dose_slopes
from caa_harness.verdict import judge

NUM_SPECS = 7

# Steering does nothing that no steering does not do as well.
NOTHING = Plant(
    per_unit=0.0,
    per_unit_sd=0.0,
    noise=0.4,
    noise_unsteered=True,
    null_per_unit=0.0,
    other_per_unit=0.0,
    others=("b", "c", "d", "e", "f", "g"),
)
# Skewed moves of scores near 1, skewed masses, some letter, some loss, two others that move too.
SKEWED = Plant(
    base=2.0,
    base_sd=1.5,
    per_unit=1.0,
    per_unit_sd=0.6,
    letter_per_unit=0.3,
    mass=0.95,
    mass_sd=0.06,
    other_per_unit=0.5,
    capability_per_unit=0.2,
    capability_noise=0.3,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened."""

    seen: int
    reps: int

    @property
    def share(self) -> float:
        return self.seen / self.reps

    def is_at_most(self, rate: float) -> bool:
        """Whether the share is within three Monte Carlo standard errors of ``rate``, or below."""
        return self.share <= rate + 3 * math.sqrt(rate * (1 - rate) / self.reps)

    def is_at_least(self, rate: float) -> bool:
        return self.share >= rate - 3 * math.sqrt(rate * (1 - rate) / self.reps)

    def __str__(self) -> str:
        return f"{self.seen} of {self.reps} ({self.share:.4f})"


def nothing_spec(truth: Plant = NOTHING, *, leave_out=(), **changed) -> BehaviorSpec:
    """Put every claim where the bound is what no effect gives exactly."""
    claims = (
        shift(1.0, at_least=0.0),
        shift(-1.0, at_most=0.0),
        level(0.0, at_least=0.5),
        dose_response(0.0),
        capability(0.0),
        capability(0.0, "accuracy"),
        letter_part(0.25),
        null(1.0, draws=truth.draws),
        specificity(0.5),
    )
    claims = tuple(claim for claim in claims if claim.kind not in leave_out)
    return spec_of(*claims, num_questions=truth.num_questions, **changed)


def on_the_bound_spec(truth: Plant, **changed) -> BehaviorSpec:
    """Put every claim exactly where this truth is, found from very many questions."""
    exact = exact_values(truth)
    claims = (
        shift(1.0, at_least=exact["up"]),
        shift(-1.0, at_most=exact["down"]),
        level(0.0, at_least=exact["level"]),
        dose_response(exact["slope"]),
        capability(-exact["probability"], multipliers=(1.0,)),
        capability(-exact["accuracy"], "accuracy", multipliers=(1.0,)),
        answer_mass(exact["mass"], multipliers=(1.0,)),
        letter_part(exact["letter"] / (exact["letter"] + exact["up"])),
        specificity(exact["other"] / exact["up"]),
    )
    return spec_of(*claims, num_questions=truth.num_questions, **changed)


def exact_values(truth: Plant, *, num_rounds: int = 40) -> dict[str, float]:
    """Mean of each number that a claim can be about, over some hundred thousand questions."""
    many = replace(truth, num_questions=10_000, num_items=10_000, draws=1)
    rounds = [_one_round(plant(many, seed=10**6 + seed)) for seed in range(num_rounds)]
    return {name: float(np.mean([found[name] for found in rounds])) for name in rounds[0]}


def _one_round(measured) -> dict[str, float]:
    table = scores.question_scores(measured.answer_logprobs)
    letter = scores.letter_levels(measured.answer_logprobs)
    mass = scores.answer_mass(measured.answer_logprobs)
    probability = scores.capability_probability(measured.capability)
    accuracy = scores.capability_accuracy(measured.capability)
    other = scores.question_scores(measured.others[0].answer_logprobs)
    return {
        "up": (table[3] - table[2]).mean(),
        "down": (table[1] - table[2]).mean(),
        "up_sd": (table[3] - table[2]).std(),
        "level": table[2].mean(),
        "slope": dose_slopes(table, measured.multipliers).mean(),
        "letter": (letter[3] - letter[2]).mean(),
        "mass": mass[3].mean(),
        "probability": (probability[2] - probability[1]).mean(),
        "accuracy": (accuracy[2] - accuracy[1]).mean(),
        "other": (other[2] - other[1]).mean(),
    }


def wrong_outcomes(spec: BehaviorSpec, truth: Plant, *, reps: int, seed: int = 0):
    """Judge ``reps`` releases of seven specs; count those with any pass, and with any fail.

    Returns
    -------
    dict
        ``pass`` and ``fail``: releases with at least one; then each kind of claim.
    """
    seen: dict[str, int] = {"pass": 0, "fail": 0}
    for release in range(reps):
        found: set[str] = set()
        for member in range(NUM_SPECS):
            measured = plant(truth, seed=[seed, release, member])
            verdicts = judge(spec, measured, num_specs=NUM_SPECS, siblings=truth.others)
            for verdict in verdicts:
                if verdict.outcome != "inconclusive":
                    found |= {verdict.outcome, f"{verdict.claim.id} {verdict.outcome}"}
        for name in found:
            seen[name] = seen.get(name, 0) + 1
    return {name: Rate(number, reps) for name, number in sorted(seen.items())}
