"""The JSON report ``caa-report/1``: verdicts in, plain types out, one file.

Everything in it is ``str``, ``int``, ``float``, ``bool``, ``None``, ``list`` or
``dict``, so that it crosses process boundaries and reads everywhere.  A number
that is not finite becomes ``null`` with its reason beside it.  Importing this
module imports no numpy.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caa_harness import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from caa_harness.evaluation import Measurements
    from caa_harness.spec import BehaviorSpec
    from caa_harness.verdict import BehaviorSummary, Part, Verdict

FORMAT = "caa-report/1"
PACKAGES = ("caa-harness", "numpy", "scipy", "pytest", "pytest-xdist", "torch", "transformers")
OUTCOMES = ("pass", "fail", "inconclusive")


def plain(value: Any) -> Any:
    """Make a value of plain types, all the way down.

    Dataclasses become dicts, tuples lists, paths strings, numpy scalars Python
    numbers.  Where an entry of a dict is not finite it becomes ``None``, and
    ``<key>_missing`` says what it was.

    Examples
    --------
    >>> plain({"low": float("nan"), "n": 3})
    {'low': None, 'low_missing': 'not a number', 'n': 3}
    """
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return _plain_container(value)


def _plain_container(value: Any) -> Any:
    """Make what holds other values plain."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_entries(
            {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        )
    if isinstance(value, Mapping):
        return _plain_entries(value)
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    message = f"no plain form of {type(value).__name__}"
    raise TypeError(message)


def _plain_entries(entries: Mapping[Any, Any]) -> dict[str, Any]:
    """Make a dict plain, with a reason beside every number that is not finite."""
    found: dict[str, Any] = {}
    for key, entry in entries.items():
        # A numpy scalar, without importing numpy.
        value = entry.item() if hasattr(entry, "item") and not hasattr(entry, "__len__") else entry
        found[str(key)] = plain(value)
        if isinstance(value, float) and not math.isfinite(value):
            found[f"{key}_missing"] = "not a number" if math.isnan(value) else "infinite"
    return found


def behavior_document(
    spec: BehaviorSpec,
    measurements: Measurements,
    verdicts: Sequence[Verdict],
    summary: BehaviorSummary,
    *,
    file: str | None = None,
) -> dict[str, Any]:
    """Put one spec's numbers and verdicts together, plain.

    Parameters
    ----------
    spec, measurements, verdicts, summary
        Of one spec and one run.
    file : str, optional
        What the report calls the spec's file; else its path.

    Returns
    -------
    dict
        ``behavior``, ``file``, ``spec_digest``, ``layer``, ``vector``, ``model``,
        ``summary`` (the table's numbers with n and intervals), ``claims`` (each
        with its verdict, parts, file and line), ``notes``, ``unscored``,
        ``open_ended`` and ``detail`` (texts and tables beside the verdicts).
    """
    from caa_harness.report.detail import behavior_detail  # noqa: PLC0415  (imports numpy)

    file = str(spec.path) if file is None else file
    return {
        "behavior": spec.behavior,
        "file": file,
        "description": spec.description,
        "sign": spec.sign,
        "spec_digest": spec.digest,
        "scoring": measurements.scoring,
        "multipliers": plain(measurements.multipliers),
        "num_held_out": len(measurements.questions),
        "layer": measurements.vector.layer,
        "vector": plain(measurements.vector),
        "model": {**plain(measurements.model), "packages": dict(measurements.model.packages)},
        "summary": {**plain(summary), "outcomes": dict(summary.outcomes)},
        "claims": [_claim_document(verdict, file) for verdict in verdicts],
        "notes": plain(measurements.notes),
        "unscored": plain(measurements.unscored),
        "open_ended": plain(measurements.open_ended),
        "detail": behavior_detail(spec, measurements),
    }


def _claim_document(verdict: Verdict, file: str) -> dict[str, Any]:
    """Put one claim and its verdict together."""
    claim = verdict.claim
    wanted = {
        field.name: getattr(claim, field.name)
        for field in dataclasses.fields(claim)
        if field.name not in ("id", "position")
    }
    return {
        "id": claim.id,
        "type": claim_type(claim),
        "claim": plain(wanted),
        "file": file,
        "line": claim.position.line,
        "column": claim.position.column,
        "pointer": claim.position.pointer,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "parts": [_part_document(part) for part in verdict.parts],
        "p_pass": plain(verdict.p_pass),
        "p_fail": plain(verdict.p_fail),
        "alpha": plain(verdict.alpha),
        "warnings": plain(verdict.warnings),
    }


def _part_document(part: Part) -> dict[str, Any]:
    """Put one inequality of a claim together, with its numbers as the verdict words them."""
    return {
        **plain(part),
        "is_shown": plain(part.is_shown),
        "is_refuted": plain(part.is_refuted),
        "text": part.interval_text,
        "bound_text": part.bound_text,
    }


def claim_type(claim: object) -> str:
    """Return the ``type`` that a claim has in the JSON file.

    Examples
    --------
    >>> from caa_harness.spec import DoseResponseClaim
    >>> claim_type(DoseResponseClaim.__new__(DoseResponseClaim))
    'dose_response'
    """
    name = type(claim).__name__.removesuffix("Claim")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def report_document(
    *,
    behaviors: Mapping[str, dict[str, Any]],
    cases: Sequence[dict[str, Any]],
    unread: Sequence[dict[str, Any]],
    deselected: Sequence[str],
    problems: Sequence[str],
    options: Mapping[str, Any],
    inconclusive: str,
    started: datetime,
    exit_status: int,
) -> dict[str, Any]:
    """Put a session's behaviors and cases together as ``caa-report/1``.

    ``complete`` is true when every claim of every collected spec was judged in
    this session: nothing left out by ``-k`` or ``-x``, nothing lost, no error.
    """
    claims = [claim for behavior in behaviors.values() for claim in behavior["claims"]]
    judged = {case["case"] for case in cases if case["judged"]}
    because = [*problems]
    because += [f"{entry['file']} could not be read" for entry in unread]
    because += [f"{case} was deselected" for case in deselected]
    because += [f"{case['case']} was not judged" for case in cases if not case["judged"]]
    because += [
        f"{file}::{claim['id']} was not judged"
        for file, behavior in behaviors.items()
        for claim in behavior["claims"]
        if f"{file}::{claim['id']}" not in judged
    ]
    because = list(dict.fromkeys(because))
    if not claims and not because:
        because.append("no claim was judged")
    counts = {
        outcome: sum(
            claim["outcome"] == outcome
            for file, behavior in behaviors.items()
            for claim in behavior["claims"]
            if f"{file}::{claim['id']}" in judged
        )
        for outcome in OUTCOMES
    }
    counts["not_judged"] = sum(not case["judged"] for case in cases)
    return {
        "format": FORMAT,
        "complete": not because,
        "incomplete_because": because,
        "exit_status": exit_status,
        "started": started.isoformat(timespec="seconds"),
        "counts": counts,
        "options": plain({**options, "inconclusive": inconclusive}),
        "packages": package_versions(),
        "behaviors": list(behaviors.values()),
        "cases": list(cases),
        "unread": list(unread),
    }


def package_versions() -> dict[str, str | None]:
    """List what is installed that can move a number; nothing of it is imported."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Write a report in one step, making its folder where there is none.

    Raises
    ------
    OSError
        When it cannot be written; a report that was there before is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
