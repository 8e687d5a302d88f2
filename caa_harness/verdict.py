"""Verdicts: each claim of a spec against what was measured.

Measurements and a spec come in; a pass, a fail or an undecided verdict per
claim goes out, with the numbers it rests on.  Nothing here runs a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caa_harness.evaluation import Measurements
    from caa_harness.spec import BehaviorSpec, Claim
    from caa_harness.statistics import Estimate

Outcome = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One inference of a claim: an estimate that must lie above or below a bound."""

    name: str
    """What was estimated, such as ``shift at +1``."""
    estimate: Estimate
    bound: float
    direction: Literal["at_least", "at_most"]
    p_holds: float
    """p of "this part does not hold": small supports the claim."""
    p_violated: float
    n_needed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim's outcome and why."""

    claim: Claim
    outcome: Outcome
    reason: str
    """One sentence, numbers with n and interval."""
    parts: tuple[Part, ...]
    p_pass: float
    """Holm-adjusted over the spec's claims."""
    p_fail: float
    alpha: float
    """One-sided error rate this spec has to spend."""
    behavior: str
    spec_digest: str
    model: str
    warnings: tuple[str, ...]


def judge(spec: BehaviorSpec, measurements: Measurements) -> Sequence[Verdict]:
    """Judge every claim of ``spec``, in the file's order."""
    raise NotImplementedError
