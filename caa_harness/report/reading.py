"""Reading: a report file in, a document that the pages can be made of out.

Reports come from other machines and other days: a file is read as strict JSON and
held to its format before anything is made of it, and what is wrong is said with
the place where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from caa_harness.errors import ReportError
from caa_harness.report.document import FORMAT, OUTCOMES

if TYPE_CHECKING:
    from pathlib import Path

_Shape = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _OrNull:
    """A shape, or null in its place."""

    shape: _Shape


_NUMBER = (int, float, type(None))
_ESTIMATE: _Shape = {"point": _NUMBER, "low": _NUMBER, "high": _NUMBER, "n": int}
_OPTIONAL_ESTIMATE = _OrNull(_ESTIMATE)
_MODEL: _Shape = dict.fromkeys(
    ("name", "architecture", "dtype", "device", "template", "weights_digest"), str
)
_STEP: _Shape = {
    "multiplier": (int, float),
    "score": _OPTIONAL_ESTIMATE,
    "shift": _OPTIONAL_ESTIMATE,
    "letter": _OPTIONAL_ESTIMATE,
    "mass_mean": _NUMBER,
    "capability_loss": _OPTIONAL_ESTIMATE,
}
_PART: _Shape = {
    "name": str,
    "estimate": {**_ESTIMATE, "confidence": _NUMBER},
    "bound": (int, float),
    "direction": str,
    "text": str,
    "bound_text": str,
    "is_required": bool,
    "n_needed": (int, type(None)),
}
_CLAIM: _Shape = {
    "id": str,
    "type": str,
    "claim?": {},
    "file": str,
    "line": int,
    "outcome": str,
    "reason": str,
    "parts": [_PART],
    "p_pass": _NUMBER,
    "p_fail": _NUMBER,
    "alpha": _NUMBER,
    "warnings": [str],
}
_ROW: _Shape = {"digest": str, "question": str, "matching": str, "not_matching": str}
_ITEM: _Shape = {
    **_ROW,
    "cluster": (str, type(None)),
    "unsteered": _NUMBER,
    "steered": _NUMBER,
    "move": _NUMBER,
    "is_wrong_way": bool,
}
_CATEGORY_STEP: _Shape = {
    "multiplier": (int, float),
    "level": _ESTIMATE,
    "change": _OPTIONAL_ESTIMATE,
}
_DETAIL: _Shape = {
    "answer_mass": [{"multiplier": (int, float), "estimate": _ESTIMATE}],
    "wrong_way": [{"multiplier": (int, float), "estimate": _OPTIONAL_ESTIMATE}],
    "least_moved": [
        {
            "multiplier": (int, float),
            "num_scored": int,
            "num_wrong_way": int,
            "items": [_ITEM],
        }
    ],
    "capability_categories": [{"category": str, "multipliers": [_CATEGORY_STEP]}],
}
_VECTOR: _Shape = {
    "layer": int,
    "norm": _NUMBER,
    "num_pairs": int,
    "mean_residual_norm": _NUMBER,
    "digest": str,
    "normalisation": str,
}
_BEHAVIOR: _Shape = {
    "behavior": str,
    "file": str,
    "spec_digest": str,
    "num_held_out": int,
    "layer": int,
    "model": _MODEL,
    "summary": {"multipliers": [_STEP], "warnings": [str]},
    "claims": [_CLAIM],
    "notes": [str],
    "description?": str,
    "sign?": str,
    "scoring?": str,
    "vector?": _VECTOR,
    "unscored?": [str],
    "open_ended?": [{"prompt": str, "multiplier": (int, float), "text": str}],
    "detail?": _DETAIL,
}
SHAPE: _Shape = {
    "format": str,
    "complete": bool,
    "incomplete_because": [str],
    "exit_status": int,
    "started": str,
    "counts": dict.fromkeys((*OUTCOMES, "not_judged"), int),
    "options": {},
    "packages": {},
    "behaviors": [_BEHAVIOR],
    "cases": [{"case": str, "judged": bool}],
    "unread": [{"file": str, "error": str}],
}
"""Keys that every report has; one with a ``?`` may be missing, others may stand beside them."""


def read_report(path: Path) -> dict[str, Any]:
    """Read a ``caa-report/1`` that ``--caa-json`` wrote.

    Parameters
    ----------
    path : Path
        A JSON file.

    Raises
    ------
    ReportError
        When the file is missing or damaged, is of another format or version, or lacks
        what every report has; says where.
    """
    try:
        document = json.loads(
            path.read_bytes().decode("utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_twice,
        )
    except OSError as error:
        raise ReportError(
            f"the report cannot be read ({error.strerror})",
            where=str(path),
            remedy="name a file that `pytest --caa-json PATH` has written",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"not a whole JSON file ({error})", where=str(path), remedy=_REMEDY
        ) from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        told = "no format is named" if found is None else f"the format is {found!r}"
        raise ReportError(f"{told}, not {FORMAT!r}", where=str(path), remedy=_REMEDY)
    assert isinstance(document, dict)
    _hold(document, SHAPE, path, "")
    _hold_outcomes(document, path)
    return document


_REMEDY = f"name a {FORMAT} file, as `pytest --caa-json PATH` writes it"


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _refuse_twice(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) != len(entries):
        message = "a key stands twice in one object"
        raise ValueError(message)
    return found


def _hold(value: Any, shape: Any, path: Path, pointer: str) -> None:
    """Hold a value to its shape: types, a list of one shape, an object's keys, or one or null."""
    if isinstance(shape, _OrNull):
        if value is not None:
            _hold(value, shape.shape, path, pointer)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            _refuse("not a list", path, pointer)
        for place, entry in enumerate(value):
            _hold(entry, shape[0], path, f"{pointer}/{place}")
    elif isinstance(shape, Mapping):
        _hold_object(value, shape, path, pointer)
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        _refuse(f"{type(value).__name__} is not what stands here", path, pointer)


def _hold_object(value: Any, shape: _Shape, path: Path, pointer: str) -> None:
    """Hold an object to its keys; those whose name ends in ``?`` need not be there."""
    if not isinstance(value, dict):
        _refuse("not an object", path, pointer)
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if key in value:
            _hold(value[key], inner, path, f"{pointer}/{key}")
        elif key == name:
            _refuse("the key is missing", path, f"{pointer}/{key}")


def _hold_outcomes(document: Mapping[str, Any], path: Path) -> None:
    """Hold every claim to the outcomes there are, and every part to a direction."""
    for i, behavior in enumerate(document["behaviors"]):
        for j, claim in enumerate(behavior["claims"]):
            pointer = f"/behaviors/{i}/claims/{j}"
            if claim["outcome"] not in OUTCOMES:
                _refuse(f"{claim['outcome']!r} is no outcome", path, f"{pointer}/outcome")
            for k, part in enumerate(claim["parts"]):
                if part["direction"] not in ("at_least", "at_most"):
                    _refuse("no direction", path, f"{pointer}/parts/{k}/direction")


def _refuse(found: str, path: Path, pointer: str) -> NoReturn:
    raise ReportError(found, where=f"{path}: {pointer or '/'}", remedy=_REMEDY)
