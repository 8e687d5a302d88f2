"""Verdicts as text of 80 columns: the block of one claim, the table of a session.

Plain report documents come in, so that the text can be written where nothing
was measured.  Colour is an argument and never the only carrier of a meaning.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import JustifyMethod, RenderableType

WIDTH = 80
MAX_DECIMALS = 8
MAX_NOTES = 10
STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
RULED = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""No lines but one of dashes under the head."""

LEGEND = (
    "How to read it: 'unsteered' is the mean probability of the answer that shows the behavior, "
    "of the two offered, over both letter orders; below it, the lowest mean p(A) + p(B) "
    "at the multipliers shown ('mass': where it is low, a score means little). "
    "A 'shift' is steered minus unsteered; below it, how far steering moved the letters "
    "themselves. 'capability' is the probe, steered minus unsteered, where it comes closest to "
    "its bound. [low,high] of capability is the interval the claim was judged at; the others have "
    "the spec's confidence, each alone. pass: shown; fail: refuted; inconclusive: too few "
    "questions to tell, and no pass."
)


def verdict_block(behavior: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """Write what a claim asked for and what was measured.

    Parameters
    ----------
    behavior, claim
        A behavior's document, and the entry of its ``claims``.

    Returns
    -------
    str
        Plain lines of at most 80 columns, unless a path is longer.
    """
    lines = [f"{claim['file']}:{claim['line']}: {claim['id']}: {claim['outcome']}"]
    lines += _wrapped(claim["reason"])
    if claim["parts"]:
        lines += ["", render([_parts_table(claim["parts"])])]
    lines += ["", *_wrapped(_error_rate(claim))]
    lines += _wrapped(
        f"{behavior['behavior']}: {behavior['num_held_out']} held-out questions, layer "
        f"{behavior['layer']}, spec {behavior['spec_digest'][:12]}"
    )
    lines += _wrapped(model_line(behavior["model"]))
    for warning in claim["warnings"]:
        lines += _wrapped(f"warning: {warning}")
    return "\n".join(lines)


def _error_rate(claim: Mapping[str, Any]) -> str:
    """Say at which error rate the claim was judged."""
    p_pass, p_fail = (_p_value(claim[key]) for key in ("p_pass", "p_fail"))
    return (
        f"p(pass) {p_pass}, p(fail) {p_fail}; "
        f"{claim['alpha']:.2g} or less decides (one-sided, Holm-adjusted over the spec's claims)"
    )


def _parts_table(parts: Sequence[Mapping[str, Any]]) -> Table:
    """Show each inequality of a claim on a line."""
    table = _table("part", "estimate", "bound", "confidence", "n", "n to decide", right=(3, 4, 5))
    for part in parts:
        sign = ">" if part["direction"] == "at_least" else "<"
        needed = part["n_needed"]
        confidence = part["estimate"]["confidence"]
        table.add_row(
            part["name"] + ("" if part["is_required"] else " (not refuted)"),
            part["text"],
            f"{sign} {part['bound_text']}",
            "-" if confidence is None else f"{confidence:.2%}",
            str(part["estimate"]["n"]),
            "-" if needed is None else str(needed),
        )
    return table


def session_summary(
    document: Mapping[str, Any], *, legend: bool = True, color: bool = False
) -> str:
    """Write the table of a session: a row per behavior, the counts, the models.

    Parameters
    ----------
    document
        A ``caa-report/1``.
    legend : bool
        Whether to say how to read it.
    color : bool
        Whether to add the terminal's colours; the words are the same.

    Returns
    -------
    str
        Lines of at most 80 columns.
    """
    judged = {case["case"] for case in document["cases"] if case["judged"]}
    names = ("behavior", "unsteered", "shift at -1", "shift at +1", "capability", "outcome")
    table = _table(*names, gap=1)
    for number, behavior in enumerate(document["behaviors"]):
        if number:
            table.add_row()
        table.add_row(*_row(behavior, judged))
    parts: list[RenderableType] = [table, ""]
    if legend:
        parts += [*(Text(line) for line in _wrapped(LEGEND)), ""]
    parts.append(_counts(document["counts"]))
    models = dict.fromkeys(model_line(entry["model"]) for entry in document["behaviors"])
    parts += [Text(line) for model in models for line in _wrapped(model)]
    parts += [Text(line) for note in _notes(document) for line in _wrapped(note)]
    return render(parts, color=color)


def _row(behavior: Mapping[str, Any], judged: set[str]) -> tuple[Text | str, ...]:
    """Write one behavior's cells, three lines each."""
    steps = behavior["summary"]["multipliers"]
    unsteered = next(step for step in steps if step["multiplier"] == 0)
    below, above = _nearest(steps, -1.0), _nearest(steps, 1.0)
    shown = [step for step in (below, unsteered, above) if step is not None]
    masses = [step["mass_mean"] for step in shown if step["mass_mean"] is not None]
    score = unsteered["score"]
    return (
        f"{behavior['behavior']}\nlayer {behavior['layer']}, n {score['n']}",
        f"{short(score['point'])}\n{interval(score)}\nmass {short(min(masses, default=None))}",
        _shift_cell(below, -1.0),
        _shift_cell(above, 1.0),
        _capability_cell(behavior),
        _outcome_cell(behavior, judged),
    )


def _nearest(steps: Sequence[Mapping[str, Any]], wanted: float) -> Mapping[str, Any] | None:
    """Take the multiplier of the wanted sign that is nearest to the wanted one."""
    same = [step for step in steps if step["multiplier"] * wanted > 0]
    return min(same, key=lambda step: abs(step["multiplier"] - wanted), default=None)


def _shift_cell(step: Mapping[str, Any] | None, wanted: float) -> str:
    """Write a shift with its interval and the letter's move."""
    if step is None or step["shift"] is None:
        return "-"
    where = "" if step["multiplier"] == wanted else f" ({step['multiplier']:+g})"
    letter = "-" if step["letter"] is None else short(step["letter"]["point"], sign="+")
    shift = step["shift"]
    first = short(shift["point"], sign="+") + where
    return f"{first}\n{interval(shift, sign='+')}\nletter {letter}"


def _capability_cell(behavior: Mapping[str, Any]) -> str:
    """Write the judged capability part that comes closest to its bound, or the lowest loss."""
    parts = [
        part
        for claim in behavior["claims"]
        if claim["type"] == "capability"
        for part in claim["parts"]
        if part["estimate"]["low"] is not None
    ]
    if parts:
        part = min(parts, key=lambda part: part["estimate"]["low"] - part["bound"])
        decimals = _decimals(part["estimate"], part["bound"])
        estimate, bound = part["estimate"], short(part["bound"], sign="+")
        first = short(estimate["point"], decimals, sign="+")
        return f"{first}\n{interval(estimate, decimals, sign='+')}\nbound {bound}"
    losses = [step["capability_loss"] for step in behavior["summary"]["multipliers"]]
    losses = [loss for loss in losses if loss is not None and loss["low"] is not None]
    if not losses:
        return "-"
    worst = min(losses, key=lambda loss: loss["low"])
    first = short(worst["point"], 3, sign="+")
    return f"{first}\n{interval(worst, 3, sign='+')}\nno bound"


def _outcome_cell(behavior: Mapping[str, Any], judged: set[str]) -> Text:
    """Say what became of the claims that were judged in this session."""
    outcomes = [
        claim["outcome"]
        for claim in behavior["claims"]
        if f"{behavior['file']}::{claim['id']}" in judged
    ]
    worst = next(name for name in ("fail", "inconclusive", "pass") if name in outcomes)
    cell = Text(worst, style=STYLES[worst])
    cell.append(f"\n{outcomes.count('pass')} of {len(outcomes)}", style="default not bold")
    left_out = len(behavior["claims"]) - len(outcomes)
    if left_out:
        cell.append(f"\n{left_out} not run", style="default not bold")
    return cell


def _counts(counts: Mapping[str, int]) -> Text:
    """Count the claims by outcome; every outcome has a word."""
    words = [(f"{counts[name]} {name}", STYLES[name]) for name in ("pass", "fail", "inconclusive")]
    if counts["not_judged"]:
        words.append((f"{counts['not_judged']} not judged", "bold red"))
    line = Text("claims: ")
    for place, (word, style) in enumerate(words):
        line.append(", " if place else "")
        line.append(word, style=style if not word.startswith("0 ") else "")
    return line


def _notes(document: Mapping[str, Any]) -> list[str]:
    """Collect what a reader should know besides the numbers."""
    notes = [
        f"note: {behavior['behavior']}: {note}"
        for behavior in document["behaviors"]
        for note in (*behavior["notes"], *behavior["summary"]["warnings"])
    ]
    notes = list(dict.fromkeys(notes))
    more = len(notes) - MAX_NOTES
    return notes[:MAX_NOTES] + ([f"note: {more} more in the JSON report"] if more > 0 else [])


def model_line(model: Mapping[str, Any]) -> str:
    """Name a model in one sentence."""
    return (
        f"model {model['name']}: {model['architecture']}, {model['num_layers']} layers, "
        f"{model['dtype']} on {model['device']}, template {model['template']}, "
        f"weights {model['weights_digest'][:12]}"
    )


def _p_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def short(value: float | None, decimals: int = 2, *, sign: str = "") -> str:
    """Write a number without the zero before its point; one that is missing is a dash.

    Examples
    --------
    >>> short(0.25), short(-0.25, 3, sign="+"), short(1.0), short(None)
    ('.25', '-.250', '1.00', '-')
    """
    if value is None:
        return "-"
    text = f"{value:{sign}.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and "0." in text[:3] else text


def interval(estimate: Mapping[str, Any], decimals: int = 2, *, sign: str = "") -> str:
    """Write an estimate's interval, with enough decimals to show that it has a width.

    Examples
    --------
    >>> interval({"low": 0.21, "high": 0.34}), interval({"low": 0.4981, "high": 0.5012})
    ('[.21,.34]', '[.498,.501]')
    """
    low, high = (short(estimate[end], decimals, sign=sign) for end in ("low", "high"))
    if low == high and estimate["low"] != estimate["high"] and decimals < MAX_DECIMALS:
        return interval(estimate, decimals + 1, sign=sign)
    return f"[{low},{high}]"


def _decimals(
    estimate: Mapping[str, Any], bound: float, least: int = 3, most: int = MAX_DECIMALS
) -> int:
    """Choose decimals that keep the ends of an interval on their side of the bound."""
    ends = [estimate[end] for end in ("low", "high") if estimate[end] is not None]
    for decimals in range(least, most):
        if all((round(end, decimals) > bound) == (end > bound) for end in ends):
            return decimals
    return most


def _table(*names: str, right: Sequence[int] = (), gap: int = 2) -> Table:
    """Make a table with nothing but a rule under its head."""
    # The box itself puts one space between columns.
    table = Table(box=RULED, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for place, name in enumerate(names):
        justify: JustifyMethod = "right" if place in right else "left"
        # The first column gives way: names can be broken, numbers cannot.
        table.add_column(name, justify=justify, overflow="fold", no_wrap=place > 0)
    return table


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, break_long_words=False, break_on_hyphens=False)


def render(parts: Iterable[RenderableType], *, color: bool = False) -> str:
    """Turn rich's renderables into text of 80 columns."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=WIDTH,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
