"""A verdict in, the outcome of a case out.

The harness decides; this module only says it in pytest's words: pass, fail,
skip or warn, with plain numbers beside it for JUnit and for the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_caa.collection import CaaWarning, ClaimNotSupportedError, record_key
from pytest_caa.options import settings_key

if TYPE_CHECKING:
    from pathlib import Path

    from caa_harness.evaluation import Measurements
    from caa_harness.pipeline import Run
    from pytest_caa.collection import ClaimCase


def settle(case: ClaimCase, run: Run, path: Path) -> None:
    """Judge the case's claim, leave its numbers, and raise unless it is supported.

    Raises
    ------
    ClaimNotSupportedError
        When the claim fails, or is undecided and that fails the case.
    HarnessError
        When it cannot be measured.
    """
    from caa_harness.report.document import behavior_document
    from caa_harness.report.terminal import verdict_block

    settings = case.config.stash[settings_key]
    spec = run.spec(path)
    measurements = run.measurements(spec)
    check_model(measurements, settings.require)
    behavior = behavior_document(
        spec,
        measurements,
        run.verdicts(spec),
        run.summary(spec),
        file=case.nodeid.partition("::")[0],
    )
    claim = next(entry for entry in behavior["claims"] if entry["id"] == case.claim.id)
    case.stash[record_key] = {"behavior": behavior, "claim": claim["id"]}
    case.user_properties.extend(properties(behavior, claim))

    outcome, headline = claim["outcome"], claim["reason"]
    if outcome == "pass":
        return
    block = verdict_block(behavior, claim)
    if outcome == "inconclusive" and settings.inconclusive == "warn":
        case.warn(CaaWarning(f"undecided: {headline}"))
        return
    if outcome == "inconclusive" and settings.inconclusive == "skip":
        pytest.skip(f"undecided: {headline}")
    raise ClaimNotSupportedError(headline, block)


def properties(behavior: dict[str, Any], claim: dict[str, Any]) -> list[tuple[str, object]]:
    """List a claim's numbers for JUnit: names and plain scalars."""
    found: list[tuple[str, object]] = [
        ("caa_behavior", behavior["behavior"]),
        ("caa_claim", claim["id"]),
        ("caa_type", claim["type"]),
        ("caa_outcome", claim["outcome"]),
        ("caa_reason", claim["reason"]),
        ("caa_model", behavior["model"]["name"]),
        ("caa_layer", behavior["vector"]["layer"]),
        ("caa_spec_digest", behavior["spec_digest"]),
        ("caa_p_pass", claim["p_pass"]),
        ("caa_p_fail", claim["p_fail"]),
    ]
    for part in claim["parts"]:
        name = part["name"].replace(" ", "_")
        estimate = part["estimate"]
        found += [(f"caa_{name}_{key}", estimate[key]) for key in ("point", "low", "high", "n")]
        found.append((f"caa_{name}_{part['direction']}", part["bound"]))
    return found


def check_model(measurements: Measurements, require: str | None) -> None:
    """Hold replayed numbers to ``--caa-require`` as well.

    Raises
    ------
    OptionError
        When they were measured on another model.
    """
    from caa_harness.errors import OptionError

    name = measurements.model.name
    if require is not None and name not in (require, require.rstrip("/").rpartition("/")[2]):
        raise OptionError(
            f"the numbers were measured on {name!r}, not {require!r}",
            where="--caa-require",
            remedy="measure on the required model, or name the folder of its recorded numbers",
        )
