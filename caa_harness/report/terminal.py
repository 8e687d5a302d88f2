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

    from rich.console import RenderableType

WIDTH = 80
STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "error": "bold red"}
RULED = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""No lines but one of dashes under the head."""
MAX_DECIMALS = 8

LEGEND = (
    "How to read this. The score of a question is the probability of the answer that shows the "
    "behavior, of the two offered, over both letter orders; 'unsteered' is its mean. A shift is "
    "steered minus unsteered at that multiplier; 'letter' is what the letters A and B moved, and is "
    "no behavior. 'mass' is p(A) + p(B): where it is low, a score means little. 'capability' is the "
    "worst change of the probe over the multipliers claimed, against its bound. [low, high] is the "
    "interval at the level each number is judged at. pass: shown; fail: refuted; inconclusive: "
    "too few questions to say, which is not a pass."
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
    lines = [f"{claim['file']}:{claim['line']}: {claim['id']} - {claim['outcome'].upper()}"]
    lines += _wrapped(claim["reason"])
    if claim["parts"]:
        lines += ["", *render([_parts_table(claim["parts"])]).splitlines()]
    lines += ["", *_wrapped(_levels(claim))]
    lines += _wrapped(
        f"{behavior['behavior']}, {behavior['num_held_out']} held-out questions, layer "
        f"{behavior['layer']}, spec {behavior['spec_digest'][:12]}; {model_line(behavior['model'])}"
    )
    for warning in claim["warnings"]:
        lines += _wrapped(f"warning: {warning}")
    return "\n".join(lines)


def _levels(claim: Mapping[str, Any]) -> str:
    """Say at which error rate the claim was judged."""
    return (
        f"pass needs p <= {number(claim['alpha'], 4)}: p(pass) {number(claim['p_pass'], 4)}, "
        f"p(fail) {number(claim['p_fail'], 4)}, Holm-adjusted over the spec's claims"
    )


def _parts_table(parts: Sequence[Mapping[str, Any]]) -> Table:
    """Show each inequality of a claim on a line."""
    table = _table()
    for name, justify in (
        ("part", "left"),
        ("estimate", "right"),
        ("interval", "left"),
        ("bound", "left"),
        ("n", "right"),
        ("n to decide", "right"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for part in parts:
        estimate = part["estimate"]
        decimals = decimals_for(estimate["low"], estimate["high"], part["bound"])
        sign = ">=" if part["direction"] == "at_least" else "<="
        needed = part["n_needed"]
        table.add_row(
            part["name"],
            number(estimate["point"], decimals),
            f"{interval(estimate, decimals)} {_percent(estimate['confidence'])}",
            f"{sign} {number(part['bound'], decimals)}",
            str(estimate["n"]),
            "-" if needed is None else str(needed),
        )
    return table


def model_line(model: Mapping[str, Any]) -> str:
    """Name a model in one line."""
    return (
        f"model {model['name']} ({model['architecture']}, {model['num_layers']} layers, "
        f"{model['dtype']} on {model['device']}, template {model['template']}, "
        f"weights {model['weights_digest'][:12]})"
    )


def number(value: float | None, decimals: int = 3) -> str:
    """Write a number; one that is missing says so.

    Examples
    --------
    >>> number(0.25), number(None)
    ('0.250', 'none')
    """
    return "none" if value is None else f"{value:.{decimals}f}"


def decimals_for(*values: float | None, least: int = 3) -> int:
    """Choose decimals so that no two different values look alike, as far as 8 go.

    Examples
    --------
    A lower end of 0.09996 does not reach a bound of 0.1, and must not look so:

    >>> decimals_for(0.09996, 0.14, 0.1)
    5
    """
    found = sorted({value for value in values if value is not None})
    for decimals in range(least, MAX_DECIMALS):
        if len({f"{value:.{decimals}f}" for value in found}) == len(found):
            return decimals
    return MAX_DECIMALS


def interval(estimate: Mapping[str, Any], decimals: int) -> str:
    """Write an estimate's interval."""
    return f"[{number(estimate['low'], decimals)}, {number(estimate['high'], decimals)}]"


def _percent(confidence: float) -> str:
    return f"{confidence:.2%}".replace(".00%", "%")


def _table() -> Table:
    """Make a table with nothing but a rule under its head."""
    return Table(box=RULED, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


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
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
