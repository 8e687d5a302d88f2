"""Explain: what a spec will ask of a model, what it can find out, and what that costs.

A spec comes in; its cases, the prompts and interventions of each stage of a
measurement, the tokens to be computed and the power of every claim go out, as
JSON or as text.  No model is opened, so tokens are estimated from characters
and the speed has to be given.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from caa_harness.authoring.power import Power, claim_powers
from caa_harness.errors import OptionError
from caa_harness.prompts import ANSWER_OPENING, write_choices
from caa_harness.spec import (
    CapabilityClaim,
    NullClaim,
    SpecificityClaim,
    family_size,
    sibling_specs,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caa_harness.spec import BehaviorSpec, HeldOutQuestion

CHARACTERS_PER_TOKEN: Final = 4.0
"""Assumed: English text under the tokenizers of today's models."""
TEMPLATE_TOKENS: Final = 10
"""Assumed: what a chat template adds to a question."""
STEERED_TOKENS: Final = 2
"""Assumed: tokens of the answer's opening, which every intervention computes anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One set of prompts, asked once under some interventions."""

    name: str
    num_prompts: int
    num_interventions: int
    """0 where residuals are read and nothing is steered."""
    num_tokens: int
    """A prompt is computed once, its answer's opening under every intervention (estimated)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a spec asks, what it can find, and what it costs."""

    spec: BehaviorSpec
    family_size: int
    powers: tuple[Power, ...]
    stages: tuple[Stage, ...]
    seconds: float | None
    """Time for all tokens at the speed that was given."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all stages (estimated)."""
        return sum(stage.num_tokens for stage in self.stages)


def explain(
    spec: BehaviorSpec, *, sd: float | None = None, tokens_per_second: float | None = None
) -> Explanation:
    """Plan the gate of one spec.

    Parameters
    ----------
    spec : BehaviorSpec
        Its folder is read for the family and for specificity claims.
    sd : float, optional
        Assumed spread of one question's number; by claim type when left out.
    tokens_per_second : float, optional
        Measured speed of the model's forward passes.

    Raises
    ------
    OptionError
        When ``sd`` or the speed is not a positive number.
    SpecError
        When a specificity claim names a behaviour that the folder does not have.
    """
    for name, number in (("--sd", sd), ("--tokens-per-second", tokens_per_second)):
        if number is not None and not (math.isfinite(number) and number > 0.0):
            raise OptionError(
                f"{number:g} is not a positive number",
                where=name,
                remedy="give a number above 0, or leave the option out",
            )
    stages = tuple(_stages(spec))
    tokens = sum(stage.num_tokens for stage in stages)
    return Explanation(
        spec=spec,
        family_size=family_size(spec),
        powers=claim_powers(spec, sd=sd),
        stages=stages,
        seconds=None if tokens_per_second is None else tokens / tokens_per_second,
    )


def explanation_json(explained: Explanation) -> dict[str, Any]:
    """Write an explanation as a JSON object; infinite distances become null."""
    spec = explained.spec
    return {
        "path": str(spec.path),
        "behavior": spec.behavior,
        "digest": spec.digest,
        "family": spec.family,
        "family_size": explained.family_size,
        "confidence": spec.confidence,
        "claims": [
            {
                "id": power.claim.id,
                "type": power.claim.kind,
                "case": f"{spec.path.name}::{power.claim.id}",
                "line": power.claim.position.line,
                "measured": power.measured,
                "alpha": power.alpha,
                "n": power.n,
                "num_clusters": power.num_clusters,
                "assumed_sd": power.sd,
                "detectable": _finite(power.detectable),
                "n_for_good_case": power.n_for_room,
            }
            for power in explained.powers
        ],
        "stages": [
            {
                "name": stage.name,
                "num_prompts": stage.num_prompts,
                "num_interventions": stage.num_interventions,
                "estimated_tokens": stage.num_tokens,
            }
            for stage in explained.stages
        ],
        "estimated_tokens": explained.num_tokens,
        "estimated_seconds": explained.seconds,
    }


def explanation_text(explained: Explanation) -> str:
    """Write an explanation for a person."""
    spec = explained.spec
    shared = (
        f"{explained.family_size} specs of the family {spec.family}"
        if spec.family is not None
        else "this spec alone"
    )
    lines = [
        (
            f"{spec.path}: {spec.behavior}, {len(spec.pairs)} pairs, {len(spec.held_out)} held-out "
            f"questions, {len(spec.claims)} claims"
        ),
        (
            f"  error rate: {(1.0 - spec.confidence) / 2.0:.3g} one-sided over {shared}; a claim "
            f"is judged at {explained.powers[0].alpha:.2g} in Holm's first step"
        ),
        "  cases:",
    ]
    for power in explained.powers:
        groups = "" if power.num_clusters == power.n else f" in {power.num_clusters} groups"
        lines += [f"    {spec.path.name}::{power.claim.id}", f"      measures {power.measured}"]
        unit = "items" if isinstance(power.claim, CapabilityClaim) else "questions"
        told = f"      n = {power.n} {unit}{groups}"
        if power.detectable is not None:
            found = f"{power.detectable:.3g}" if math.isfinite(power.detectable) else "nothing"
            told += f"; finds {found} beyond its bound in 80 of 100 runs (assumed sd {power.sd:g})"
        lines.append(told)
    lines.append("  to compute:")
    for stage in explained.stages:
        under = f" under {stage.num_interventions} interventions" * bool(stage.num_interventions)
        lines.append(
            f"    {stage.name}: {stage.num_prompts:,} prompts{under}, "
            f"about {stage.num_tokens:,} tokens"
        )
    total = f"  in all about {explained.num_tokens:,} tokens ({CHARACTERS_PER_TOKEN:g} characters "
    if explained.seconds is None:
        lines.append(f"{total}each); --tokens-per-second says how long that takes")
    else:
        lines.append(f"{total}each), {_duration(explained.seconds)}")
    return "\n".join(lines)


def explanations_json(explained: Sequence[Explanation]) -> str:
    """Write several explanations as one JSON document."""
    return json.dumps({"specs": [explanation_json(one) for one in explained]}, indent=2)


def _stages(spec: BehaviorSpec) -> Iterable[Stage]:
    """Everything a measurement of this spec alone asks, in its order."""
    orders = 1 if spec.scoring == "paper" else 2
    pairs = [_two_choices(pair.question, pair.matching, pair.not_matching) for pair in spec.pairs]
    yield _stage("pairs, for the vector", pairs * orders, 0)
    nulls: dict[float, int] = {}
    others: dict[str, set[float]] = {}
    probe: set[float] = set()
    siblings = (
        sibling_specs(spec)
        if any(isinstance(claim, SpecificityClaim) for claim in spec.claims)
        else {}
    )
    for claim in spec.claims:
        match claim:
            case NullClaim():
                nulls[claim.multiplier] = max(claim.draws, nulls.get(claim.multiplier, 0))
            case SpecificityClaim():
                for name in claim.against or tuple(siblings):
                    others.setdefault(name, set()).update({0.0, claim.multiplier})
            case CapabilityClaim():
                probe |= {0.0, *claim.multipliers}
    own = len(spec.multipliers) + 2 * sum(nulls.values())
    yield _stage("held-out questions", _held_out(spec.held_out) * orders, own)
    for name, multipliers in others.items():
        texts = _held_out(siblings[name].held_out)
        yield _stage(f"questions of {name}", texts * orders, len(multipliers))
    if spec.capability and probe:
        items = [write_choices(item.question, item.options) for item in spec.capability]
        yield _stage("capability probe", items, len(probe))


def _held_out(questions: Iterable[HeldOutQuestion]) -> list[str]:
    return [_two_choices(one.question, one.matching, one.not_matching) for one in questions]


def _two_choices(question: str, matching: str, not_matching: str) -> str:
    return write_choices(question, (matching, not_matching))


def _stage(name: str, texts: Sequence[str], num_interventions: int) -> Stage:
    """Count the prompts and estimate their tokens."""
    characters = sum(len(text) + len(ANSWER_OPENING) for text in texts)
    prompts = characters / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS * len(texts)
    # Reading residuals computes both answer letters, which is as much as two interventions.
    steered = STEERED_TOKENS * (num_interventions or 2) * len(texts)
    return Stage(
        name=name,
        num_prompts=len(texts),
        num_interventions=num_interventions,
        num_tokens=math.ceil(prompts + steered),
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _duration(seconds: float) -> str:
    """Write a time with the unit that a person would use."""
    if seconds < 120:  # noqa: PLR2004
        return f"about {max(seconds, 1.0):.0f} s"
    if seconds < 7200:  # noqa: PLR2004
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
