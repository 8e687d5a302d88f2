"""The Markdown report: a ``caa-report/1`` in, the text of a step summary out.

GitHub shows it on the page of a job: the verdict, a row for each behavior, and the
claims that are not supported with what was measured.  It never grows beyond what
GitHub takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from caa_harness import atomic
from caa_harness.report import words

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1024 * 1024
"""What GitHub takes of one step; a longer summary is not shown at all."""
MAX_TEXT = 2000
MARKS = {"pass": "&#10003;", "fail": "&#10007;", "inconclusive": "?", "not judged": "&ndash;"}
_SPECIAL = re.compile(r"[\\`*_\[\]<>#!|~&@:$]|^(?:[-+=]|\d(?=\d*[.)]))")


def markdown_report(document: Mapping[str, Any], *, max_bytes: int = MAX_BYTES) -> str:
    """Write a report as GitHub-flavoured Markdown.

    Parameters
    ----------
    document
        A ``caa-report/1``.
    max_bytes : int
        Claims that do not fit are counted instead of shown.

    Returns
    -------
    str
        At most ``max_bytes`` of UTF-8.  Texts of the document are escaped: they cannot
        become links, mentions, HTML or columns.
    """
    state, sentence = words.headline(document)
    parts = [f"## {state.capitalize()}: behaviors under steering\n", f"{escaped(sentence)}\n"]
    reasons = [f"- {escaped(reason)}" for reason in words.missing(document)]
    parts += _few(reasons, "more reasons")
    parts.append(_table(document))
    blocks = [*_unsupported(document), *_errors(document)]
    parts.append(
        "Intervals have the spec's confidence, each taken alone; capability has the level at which "
        "its claim is judged. *inconclusive* is no pass.\n"
    )
    return _fitted(parts, blocks, max_bytes)


def write_markdown(document: Mapping[str, Any], path: Path) -> None:
    """Write the page in one step, making its folder where there is none.

    Raises
    ------
    OSError
        When it cannot be written; a page that was there before is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, markdown_report(document))


def escaped(text: str) -> str:
    r"""Turn a text into one line of Markdown that says nothing but the text.

    Examples
    --------
    >>> escaped("a|b <script>\n@all")
    'a&#124;b &#60;script&#62; &#64;all'
    """
    line = " ".join(text.split())
    line = line[: MAX_TEXT - 3] + "..." if len(line) > MAX_TEXT else line
    # References, not backslashes: within a table GitHub reads a backslash in its own way.
    shown = _SPECIAL.sub(lambda found: f"&#{ord(found.group())};", line)
    return re.sub(
        r"(?i)\b(https?|www)", lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", shown
    )


def _few(lines: list[str], what: str, most: int = 20) -> list[str]:
    """Keep the first lines and count the others."""
    more = len(lines) - most
    kept = lines[:most] + ([f"- and {more} {what}"] if more > 0 else [])
    return ["\n".join(kept) + "\n"] if kept else []


def _table(document: Mapping[str, Any]) -> str:
    """Write a row for each behavior."""
    judged = words.judged_cases(document)
    lines = [
        "| behavior | outcome | unsteered | shift at -1 | shift at +1 | capability |",
        "| :-- | :-- | :-- | :-- | :-- | :-- |",
    ]
    for behavior in document["behaviors"]:
        outcomes = [words.outcome_of(claim, behavior, judged) for claim in behavior["claims"]]
        worst = words.worst(outcomes)
        unsteered = words.step_at(behavior, 0.0)
        part = words.closest_part(behavior, "capability")
        cells = (
            f"**{escaped(behavior['behavior'])}**<br>layer {behavior['layer']}",
            f"{MARKS[worst]} **{worst}**<br>{words.outcome_words(outcomes)}",
            _cell(None if unsteered is None else unsteered["score"]),
            _shift(behavior, -1.0),
            _shift(behavior, 1.0),
            "no claim"
            if part is None
            else _cell(part["estimate"], sign=True, bound=part["bound"])
            + f"<br>must be {_side(part)} {part['bound_text']}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    if not document["behaviors"]:
        return "No behavior was measured.\n"
    return "\n".join(lines) + "\n"


def _cell(
    estimate: Mapping[str, Any] | None, *, sign: bool = False, bound: float | None = None
) -> str:
    return "<br>".join(words.point_interval_sample(estimate, sign=sign, bound=bound))


def _shift(behavior: Mapping[str, Any], wanted: float) -> str:
    step = words.nearest_step(behavior, wanted)
    if step is None:
        return words.NOT_MEASURED
    where = "" if step["multiplier"] == wanted else f"<br>at {words.at(step['multiplier'])}"
    return _cell(step["shift"], sign=True) + where


def _side(part: Mapping[str, Any]) -> str:
    return "more than" if part["direction"] == "at_least" else "less than"


def _unsupported(document: Mapping[str, Any]) -> list[str]:
    """Write each claim that was judged and is not supported."""
    judged = words.judged_cases(document)
    found = []
    for behavior in document["behaviors"]:
        for claim in behavior["claims"]:
            outcome = words.outcome_of(claim, behavior, judged)
            if outcome not in ("fail", "inconclusive"):
                continue
            title = escaped(f"{behavior['behavior']}: {claim['id']}")
            lines = [f"### {MARKS[outcome]} {outcome}: {title}\n", f"{escaped(claim['reason'])}\n"]
            if claim["parts"]:
                lines += [
                    "| part | estimate | n | confidence | must be | n to decide |",
                    "| :-- | :-- | :-- | :-- | :-- | :-- |",
                    *(_part(part) for part in claim["parts"]),
                    "",
                ]
            lines.append(f"{escaped(claim['file'])}, line {claim['line']}\n")
            found.append("\n".join(lines))
    return found


def _part(part: Mapping[str, Any]) -> str:
    """Write one inequality of a claim as a row."""
    estimate, needed = part["estimate"], part["n_needed"]
    shown = estimate["point"] is not None
    cells = (
        escaped(part["name"]),
        part["text"] if shown else words.NOT_MEASURED,
        words.sample(estimate).removeprefix("n = "),
        words.percent(estimate["confidence"]),
        f"{_side(part)} {part['bound_text']}",
        "" if needed is None else f"about {needed:,}",
    )
    return f"| {' | '.join(cells)} |"


def _errors(document: Mapping[str, Any]) -> list[str]:
    """Write each case and file that ended in an error."""
    told = [(case["case"], case["error"]) for case in document["cases"] if case.get("error")]
    told += [(entry["file"], entry["error"]) for entry in document["unread"]]
    return [f"### Error: {escaped(place)}\n\n{escaped(error)}\n" for place, error in told]


def _fitted(parts: list[str], blocks: list[str], max_bytes: int) -> str:
    """Put everything together, leaving out blocks that would be too much."""
    tail = "{} more: see the other reports.\n"
    room = max_bytes - _size(parts) - len(tail) - 20
    kept: list[str] = []
    for place, block in enumerate(blocks):
        room -= _size([block])
        if room < 0:
            kept.append(tail.format(len(blocks) - place))
            break
        kept.append(block)
    text = "\n".join([*parts, *kept])
    if _size([text]) <= max_bytes:
        return text
    # Not even the table fits: the verdict alone always does, or nothing is said.
    short = "\n".join([*parts[:2], tail.format(len(blocks))])
    return short if _size([short]) <= max_bytes else ""


def _size(texts: list[str]) -> int:
    return sum(len(text.encode("utf-8", "replace")) + 1 for text in texts)
