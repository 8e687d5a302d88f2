"""Comparison: two reports in, what changed between them out.

Verdicts are compared claim by claim, shifts side by side with their intervals, and
what the numbers were made with is listed where it differs.  Two intervals side by
side are no test of their difference, and nothing here pretends to one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from caa_harness.report import words

_RANK = {"pass": 2, "inconclusive": 1, "fail": 0, "not judged": -1}
"""How much a claim supports; lower is worse."""
_WIDTH = 80
_CARD = ("name", "weights_digest", "tokenizer_digest", "dtype", "device", "template", "attention")
_BEHAVIOR = ("spec_digest", "layer", "scoring", "num_held_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One claim whose verdict is not what it was; ``None`` where a report has no such claim."""

    behavior: str
    claim: str
    before: str | None
    after: str | None
    reason: str

    @property
    def is_worse(self) -> bool:
        """Whether the claim is less supported than before, or gone."""
        if self.before is None:
            return self.after != "pass"
        return self.after is None or _RANK[self.after] < _RANK[self.before]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What changed from one report to another."""

    changes: tuple[Change, ...]
    num_same: int
    is_worse: bool
    """Whether any claim is less supported, is gone or is new and not shown; or the later
    report is incomplete."""
    text: str


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compare two reports.

    Parameters
    ----------
    before, after
        ``caa-report/1`` documents, as ``read_report`` gives them.

    Returns
    -------
    Comparison
        With a text of about 80 columns for people.
    """
    changes, num_same = _changes(before, after)
    is_worse = any(change.is_worse for change in changes) or not after["complete"]
    lines = [_headline(changes, num_same), ""]
    for name, document in (("before", before), ("after", after)):
        state, _ = words.headline(document)
        lines.append(f"{name}: {state}, {words.count_words(document['counts'])}")
        if not document["complete"]:
            lines.append("  incomplete: what was not judged is not compared as if it were")
    for change in sorted(changes, key=lambda change: not change.is_worse):
        lines += ["", *_change_lines(change)]
    lines += ["", *_shift_lines(before, after)]
    differences = list(_differences(before, after))
    if differences:
        lines += ["", "made with something else:"]
        lines += [f"  {line}" for line in differences]
    return Comparison(
        changes=tuple(changes),
        num_same=num_same,
        is_worse=is_worse,
        text="\n".join(lines),
    )


def _by_behavior(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name the entries of a report: by behavior, and by file where two share a name."""
    found: dict[str, Mapping[str, Any]] = {}
    for behavior in document["behaviors"]:
        name = behavior["behavior"]
        found[f"{name} ({behavior['file']})" if name in found else name] = behavior
    return found


def _outcomes(document: Mapping[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    """Give each claim's outcome and reason, by behavior and id."""
    judged = words.judged_cases(document)
    return {
        (name, claim["id"]): (words.outcome_of(claim, behavior, judged), claim["reason"])
        for name, behavior in _by_behavior(document).items()
        for claim in behavior["claims"]
    }


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[list[Change], int]:
    """List the claims whose verdict differs, and count those where it does not."""
    earlier, later = _outcomes(before), _outcomes(after)
    changes, num_same = [], 0
    for key in dict.fromkeys([*earlier, *later]):
        old, new = earlier.get(key), later.get(key)
        if old is not None and new is not None and old[0] == new[0]:
            num_same += 1
            continue
        changes.append(
            Change(
                behavior=key[0],
                claim=key[1],
                before=None if old is None else old[0],
                after=None if new is None else new[0],
                reason=_reason(new),
            )
        )
    return changes, num_same


def _reason(new: tuple[str, str] | None) -> str:
    """Say why the later outcome is what it is."""
    if new is None:
        return "the later report has no such claim"
    outcome, reason = new
    return "the later session left its case out" if outcome == "not judged" else reason


def _headline(changes: list[Change], num_same: int) -> str:
    worse = sum(change.is_worse for change in changes)
    return f"verdicts: {worse} worse, {len(changes) - worse} otherwise changed, {num_same} the same"


def _change_lines(change: Change) -> list[str]:
    """Write one changed verdict, and why it is what it is."""
    arrow = f"{change.before or 'no such claim'} -> {change.after or 'gone'}"
    word = "worse" if change.is_worse else "changed"
    head = f"{word}: {change.behavior} {change.claim}: {arrow}"
    reason = textwrap.wrap(change.reason, _WIDTH - 2, break_long_words=False)
    return [head, *(f"  {line}" for line in reason)]


def _shift_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Write the shifts side by side, with their own intervals."""
    yield "shifts, each with its own interval (no test of their difference):"
    earlier, later = _by_behavior(before), _by_behavior(after)
    for name in dict.fromkeys([*earlier, *later]):
        old, new = earlier.get(name), later.get(name)
        steps = [
            step["multiplier"]
            for one in (old, new)
            if one is not None
            for step in one["summary"]["multipliers"]
            if step["multiplier"] != 0
        ]
        for multiplier in sorted(set(steps)):
            earlier_text, later_text = (_shift(one, multiplier) for one in (old, new))
            yield f"  {name} at {words.at(multiplier)}"
            if earlier_text == later_text:
                yield f"    both   {later_text}"
            else:
                yield f"    before {earlier_text}"
                yield f"    after  {later_text}"


def _shift(behavior: Mapping[str, Any] | None, multiplier: float) -> str:
    """Write a shift, or that there is none."""
    if behavior is None:
        return "behavior not in this report"
    step = words.step_at(behavior, multiplier)
    if step is None:
        return words.NOT_MEASURED
    confidence = behavior["summary"].get("confidence")
    at = "" if confidence is None else f", {words.percent(confidence)} interval"
    return words.in_full(step["shift"], sign=True) + at


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """List what the numbers were made with, where it is not the same."""
    earlier, later = _by_behavior(before), _by_behavior(after)
    told: dict[str, list[str]] = {}
    for name in earlier.keys() & later.keys():
        old, new = earlier[name], later[name]
        for key in _BEHAVIOR:
            _note(told, key, old.get(key), new.get(key), name)
        for key in _CARD:
            _note(told, f"model {key}", old["model"].get(key), new["model"].get(key), name)
        _note(
            told,
            "vector",
            old.get("vector", {}).get("digest"),
            new.get("vector", {}).get("digest"),
            name,
        )
        asked = {claim["id"]: claim.get("claim") for claim in old["claims"]}
        for claim in new["claims"]:
            if claim["id"] in asked and asked[claim["id"]] != claim.get("claim"):
                told.setdefault("claims ask for something else", []).append(f"{name} {claim['id']}")
    for key in ("options", "packages"):
        for name in dict.fromkeys([*before[key], *after[key]]):
            _note(told, f"{key} {name}", before[key].get(name), after[key].get(name), "")
    for what, names in told.items():
        where = ", ".join(sorted(filter(None, names)))
        yield f"{what}" + (f": {where}" if where else "")


def _note(told: dict[str, list[str]], what: str, old: object, new: object, name: str) -> None:
    """Remember a difference, behaviors that share it together."""
    if old != new:
        key = f"{what.replace('_', ' ')} {_brief(old)} -> {_brief(new)}"
        told.setdefault(key, []).append(name)


def _brief(value: object) -> str:
    """Write a value short; digests by their start."""
    text = "none" if value is None else str(value)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)  # noqa: PLR2004
    return text[:12] if is_digest else text
