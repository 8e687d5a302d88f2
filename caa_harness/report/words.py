"""Words: the numbers of a report document in, short texts for people out.

Every number comes with its interval and its n; one that is missing is said to be,
with the reason that the document gives.  Shared by the pages for people, so that
they say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTCOME_ORDER = ("fail", "inconclusive", "not judged", "pass")
NOT_MEASURED = "not measured"
_FINE = 5
"""Decimals beyond which an interval's width is of no interest."""
_MOST_DECIMALS = 8


def headline(document: Mapping[str, Any]) -> tuple[str, str]:
    """Say whether the gate passed: a state of one word, and a sentence.

    Returns
    -------
    state, sentence
        ``passed`` only where every claim of every collected spec was judged and shown
        and the session ended well.  ``incomplete`` where nothing that was judged speaks
        against it, ``not passed`` where something does.
    """
    counts = document["counts"]
    told = count_words(counts)
    unshown = counts["fail"] + counts["inconclusive"]
    if not document["complete"]:
        state = "not passed" if unshown else "incomplete"
        return state, f"{told}. This report is incomplete: not everything was judged."
    if unshown or counts["not_judged"]:
        return "not passed", f"{told}. A claim that is not shown does not pass."
    if document["exit_status"] != 0:
        status = document["exit_status"]
        return "not passed", f"{told}, but the session ended with exit status {status}."
    return "passed", f"{told}. Every claim of every spec was judged and shown."


def missing(document: Mapping[str, Any]) -> list[str]:
    """List why a report is incomplete; a case that was deselected is named once."""
    reasons = list(document["incomplete_because"])
    deselected = {text.removesuffix(" was deselected") for text in reasons}
    return [
        text for text in reasons if text.removesuffix(" was not judged") not in deselected - {text}
    ]


def outcome_words(outcomes: Sequence[str]) -> str:
    """Count a behavior's outcomes.

    Examples
    --------
    >>> outcome_words(["pass", "pass", "not judged"])
    '2 of 3 claims pass, 1 not judged'
    """
    left_out = outcomes.count("not judged")
    told = f"{outcomes.count('pass')} of {len(outcomes)} claims pass"
    return told + (f", {left_out} not judged" if left_out else "")


def count_words(counts: Mapping[str, int]) -> str:
    """Count the claims by outcome.

    Examples
    --------
    >>> count_words({"pass": 3, "fail": 1, "inconclusive": 0, "not_judged": 0})
    '4 claims: 3 pass, 1 fail, 0 inconclusive'
    """
    total = sum(counts.values())
    words = [f"{counts[name]} {name}" for name in ("pass", "fail", "inconclusive")]
    if counts["not_judged"]:
        words.append(f"{counts['not_judged']} not judged")
    return f"{total} claim{'' if total == 1 else 's'}: {', '.join(words)}"


def judged_cases(document: Mapping[str, Any]) -> set[str]:
    """Name the cases that were judged in the session."""
    return {case["case"] for case in document["cases"] if case["judged"]}


def outcome_of(claim: Mapping[str, Any], behavior: Mapping[str, Any], judged: set[str]) -> str:
    """Say what became of a claim in the session: ``not judged`` where it was left out."""
    is_judged = f"{behavior['file']}::{claim['id']}" in judged
    return str(claim["outcome"]) if is_judged else "not judged"


def worst(outcomes: Sequence[str]) -> str:
    """Combine outcomes: the worst one; nothing at all is not judged.

    Examples
    --------
    >>> worst(["pass", "inconclusive"]), worst([])
    ('inconclusive', 'not judged')
    """
    return next((name for name in OUTCOME_ORDER if name in outcomes), "not judged")


def at(multiplier: float) -> str:
    """Write a multiplier with its sign; 0 has none.

    Examples
    --------
    >>> at(1.0), at(-0.5), at(0.0)
    ('+1', '-0.5', '0')
    """
    return f"{multiplier:+g}" if multiplier else "0"


def number(value: float | None, decimals: int = 3, *, sign: bool = False) -> str:
    """Write a number; one that rounds to zero has no sign.

    Examples
    --------
    >>> number(0.25, sign=True), number(-0.0001, sign=True), number(None)
    ('+0.250', '0.000', 'not measured')
    """
    if value is None:
        return NOT_MEASURED
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0.0 else text


def decimals_of(estimate: Mapping[str, Any], bound: float | None = None, least: int = 3) -> int:
    """Choose decimals that show an interval's width and keep its ends on their side of a bound.

    Examples
    --------
    >>> decimals_of({"point": 0.25, "low": 0.2, "high": 0.3})
    3
    >>> decimals_of({"point": 0.99985, "low": 0.99981, "high": 0.99989})
    5
    """
    shown = [estimate[key] for key in ("low", "point", "high") if estimate[key] is not None]
    has_width = len(set(shown)) > 1
    for decimals in range(least, _MOST_DECIMALS):
        rounded = [round(value, decimals) for value in shown]
        is_wide = not has_width or len(set(rounded)) > 1 or decimals >= _FINE
        keeps_side = bound is None or all(
            (short > bound, short < bound) == (value > bound, value < bound)
            for short, value in zip(rounded, shown, strict=True)
        )
        if is_wide and keeps_side:
            return decimals
    return _MOST_DECIMALS


def point_interval_sample(
    estimate: Mapping[str, Any] | None, *, sign: bool = False, bound: float | None = None
) -> list[str]:
    """Write an estimate's point, its interval and its n.

    Where the point is missing there is one text, which says why.
    """
    if estimate is None:
        return [NOT_MEASURED]
    if estimate["point"] is None:
        reason = estimate.get("degenerate") or estimate.get("point_missing")
        return [NOT_MEASURED + (f" ({reason})" if reason else "")]
    decimals = decimals_of(estimate, bound)
    ends = [number(estimate[end], decimals, sign=sign) for end in ("low", "high")]
    interval = "[no interval]" if NOT_MEASURED in ends else f"[{', '.join(ends)}]"
    return [number(estimate["point"], decimals, sign=sign), interval, sample(estimate)]


def sample(estimate: Mapping[str, Any]) -> str:
    """Write an estimate's n, and its clusters where it has some.

    Examples
    --------
    >>> sample({"n": 66, "num_clusters": 22})
    'n = 66, 22 clusters'
    """
    clusters = estimate.get("num_clusters")
    return f"n = {estimate['n']}" + (f", {clusters} clusters" if clusters is not None else "")


def moment(started: str) -> str:
    """Write when a session started.

    Examples
    --------
    >>> moment("2026-01-02T03:04:05+00:00")
    '2026-01-02 03:04:05 UTC'
    """
    return started.replace("T", " ").replace("+00:00", " UTC")


def in_full(
    estimate: Mapping[str, Any] | None, *, sign: bool = False, bound: float | None = None
) -> str:
    """Write an estimate in one text.

    Examples
    --------
    >>> in_full({"point": 0.25, "low": 0.2, "high": 0.3, "n": 66, "num_clusters": 22})
    '0.250 [0.200, 0.300], n = 66, 22 clusters'
    """
    point, *rest = point_interval_sample(estimate, sign=sign, bound=bound)
    return f"{point} {', '.join(rest)}" if rest else point


def percent(confidence: float | None) -> str:
    """Write a confidence, with digits enough to tell it from 100 %.

    Examples
    --------
    >>> percent(0.95), percent(0.99921)
    ('95 %', '99.921 %')
    """
    if confidence is None:
        return NOT_MEASURED
    for digits in range(8):
        text = f"{100 * confidence:.{digits}f}"
        if abs(float(text) / 100 - confidence) <= 0.02 * (1.0 - confidence):
            break
    return f"{text} %"


def step_at(behavior: Mapping[str, Any], multiplier: float) -> Mapping[str, Any] | None:
    """Find a behavior's summary at a multiplier."""
    steps = behavior["summary"]["multipliers"]
    return next((step for step in steps if step["multiplier"] == multiplier), None)


def nearest_step(behavior: Mapping[str, Any], wanted: float) -> Mapping[str, Any] | None:
    """Take the multiplier of the wanted sign that is nearest to the wanted one."""
    steps = behavior["summary"]["multipliers"]
    same = [step for step in steps if step["multiplier"] * wanted > 0]
    return min(same, key=lambda step: abs(step["multiplier"] - wanted), default=None)


def slack(part: Mapping[str, Any]) -> float | None:
    """How far the interval lies on the bound's good side; negative: not shown."""
    low, high = part["estimate"]["low"], part["estimate"]["high"]
    if low is None or high is None:
        return None
    return float(low - part["bound"] if part["direction"] == "at_least" else part["bound"] - high)


def closest_part(behavior: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """Take the judged part, of the claims of one type, that comes closest to its bound."""
    parts = [
        part for claim in behavior["claims"] if claim["type"] == kind for part in claim["parts"]
    ]
    known = [(slack(part), place) for place, part in enumerate(parts)]
    found = [(distance, place) for distance, place in known if distance is not None]
    return parts[min(found)[1]] if found else None
