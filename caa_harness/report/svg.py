"""Drawings: estimates in, inline SVG out.

Each drawing has a title and a description in words, scales with its box, and takes
its colours from the page's style, so that it follows light, dark and print.
Nothing here reads a report document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from caa_harness.report.markup import Markup, element

WIDTH, HEIGHT = 280, 196
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 24, 38
STRIP_WIDTH, STRIP_HEIGHT = 170, 22
_STRIP_MARGIN = 6
_NUM_TICKS = 4
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One estimate at one multiplier; ``None`` where there is none."""

    x: float
    y: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a claim demands at one multiplier: the value, and on which side of it to lie."""

    x: float
    y: float
    direction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Numbers to places in the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Place a number; one outside the range lies on its edge."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def ticks(low: float, high: float, count: int = _NUM_TICKS) -> list[float]:
    """Choose round numbers within a range.

    Examples
    --------
    >>> ticks(0.0, 1.0)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> ticks(-0.06, 0.02)
    [-0.06, -0.04, -0.02, 0.0, 0.02]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    first = math.ceil(low / step - _ROUNDING)
    last = math.floor(high / step + _ROUNDING)
    return [round(place * step, 12) + 0.0 for place in range(first, last + 1)]


def padded(values: Sequence[float], *, around: float | None = None) -> tuple[float, float]:
    """Choose a range with room on both sides, never empty."""
    shown = [*values, *([] if around is None else [around])] or [0.0, 1.0]
    low, high = min(shown), max(shown)
    room = 0.08 * (high - low) or max(abs(high) * 0.05, 0.01)
    return low - room, high + room


def chart(
    name: str,
    title: str,
    description: str,
    dots: Sequence[Dot],
    *,
    y_range: tuple[float, float],
    y_label: str,
    baseline: float | None = None,
    bounds: Sequence[Bound] = (),
    lowest: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Draw estimates over multipliers: a line, a band of intervals, and the bounds of claims.

    Parameters
    ----------
    name : str
        Unique in the page, of letters, digits and dashes.
    title, description : str
        What a reader hears who does not see the drawing.
    dots
        In ascending order.
    y_range, y_label
        Of the vertical axis.
    baseline : float, optional
        Where to draw a dashed line.
    bounds
        Drawn as a bar with an arrow to the side that the claim asks for.
    lowest
        (multiplier, value) of single questions, drawn hollow.
    """
    xs = sorted({dot.x for dot in dots}) or [0.0]
    margin = 0.06 * (xs[-1] - xs[0]) or 1.0
    x = Scale(low=xs[0] - margin, high=xs[-1] + margin, start=LEFT, end=WIDTH - RIGHT)
    y = Scale(low=y_range[0], high=y_range[1], start=HEIGHT - BOTTOM, end=TOP)
    parts = [*_axes(xs, x, y, y_label)]
    if baseline is not None:
        parts.append(_line(LEFT, y(baseline), WIDTH - RIGHT, y(baseline), "baseline"))
    parts += [_band(run, x, y) for run in _runs(dots)]
    for first, second in pairwise(dots):
        if first.y is not None and second.y is not None:
            parts.append(_line(x(first.x), y(first.y), x(second.x), y(second.y), "curve"))
    for dot in dots:
        parts += _whisker(dot, x, y)
    parts += [_bound(bound, x, y) for bound in bounds]
    parts += [
        element("circle", cx=_at(x(place)), cy=_at(y(value)), r=3, class_="hollow")
        for place, value in lowest
    ]
    return _drawing(name, title, description, parts, width=WIDTH, height=HEIGHT, class_="chart")


def strip(
    name: str,
    description: str,
    dot: Dot,
    *,
    bound: float,
    direction: str,
    span: tuple[float, float],
) -> Markup:
    """Draw one interval against its bound, on a line; the demanded side is hatched under it."""
    x = Scale(low=span[0], high=span[1], start=_STRIP_MARGIN, end=STRIP_WIDTH - _STRIP_MARGIN)
    middle = STRIP_HEIGHT / 2
    start, end = (
        (x(bound), STRIP_WIDTH - _STRIP_MARGIN)
        if direction == "at_least"
        else (_STRIP_MARGIN, x(bound))
    )
    parts = [
        element(
            "rect",
            x=_at(start),
            y=_at(middle - 6),
            width=_at(max(end - start, 0.0)),
            height=12,
            class_="allowed",
        ),
        _line(x(bound), 2, x(bound), STRIP_HEIGHT - 2, "bound"),
    ]
    if dot.low is not None and dot.high is not None:
        parts.append(_line(x(dot.low), middle, x(dot.high), middle, "whisker"))
        parts += [_line(x(end), middle - 4, x(end), middle + 4, "whisker") for end in _ends(dot)]
    if dot.y is not None:
        parts.append(element("circle", cx=_at(x(dot.y)), cy=_at(middle), r=3.2, class_="dot"))
    title = "Interval against its bound"
    return _drawing(
        name, title, description, parts, width=STRIP_WIDTH, height=STRIP_HEIGHT, class_="strip"
    )


def _drawing(
    name: str,
    title: str,
    description: str,
    parts: Sequence[Markup],
    *,
    width: int,
    height: int,
    class_: str,
) -> Markup:
    """Wrap the parts, with a name and words for those who do not see them."""
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        *parts,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_=class_,
    )


def _axes(xs: Sequence[float], x: Scale, y: Scale, y_label: str) -> list[Markup]:
    """Draw the grid, its numbers, and what the axes are."""
    parts = []
    marks = ticks(y.low, y.high)
    decimals = _decimals(marks)
    for mark in marks:
        parts.append(_line(LEFT, y(mark), WIDTH - RIGHT, y(mark), "grid"))
        words = f"{mark:.{decimals}f}"
        parts.append(_text(LEFT - 6, y(mark) + 4, words, "end"))
    for place in xs:
        parts.append(_line(x(place), HEIGHT - BOTTOM, x(place), HEIGHT - BOTTOM + 4, "tick"))
        words = f"{place:+g}" if place else "0"
        parts.append(_text(x(place), HEIGHT - BOTTOM + 17, words, "middle"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "tick"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "multiplier", "middle"))
    parts.append(_text(2, 12, y_label, "start"))
    return parts


def _decimals(marks: Sequence[float]) -> int:
    """Choose as many decimals as the marks need."""
    for decimals in range(7):
        if all(abs(round(mark, decimals) - mark) < _ROUNDING for mark in marks):
            return decimals
    return 7


def _runs(dots: Sequence[Dot]) -> list[list[Dot]]:
    """Split dots into runs of neighbours that have intervals."""
    runs: list[list[Dot]] = [[]]
    for dot in dots:
        if dot.low is None or dot.high is None:
            runs.append([])
        else:
            runs[-1].append(dot)
    return [run for run in runs if len(run) > 1]


def _band(run: Sequence[Dot], x: Scale, y: Scale) -> Markup:
    """Draw the intervals of neighbouring dots as one area."""
    above = [(x(dot.x), y(dot.high)) for dot in run if dot.high is not None]
    below = [(x(dot.x), y(dot.low)) for dot in reversed(run) if dot.low is not None]
    points = " ".join(f"{_at(across)},{_at(down)}" for across, down in above + below)
    return element("polygon", points=points, class_="band")


def _whisker(dot: Dot, x: Scale, y: Scale) -> list[Markup]:
    """Draw one estimate: its interval, and its point on top."""
    if dot.y is None:
        return []
    parts = []
    ends = _ends(dot)
    if ends:
        parts.append(_line(x(dot.x), y(ends[0]), x(dot.x), y(ends[1]), "whisker"))
        parts += [_line(x(dot.x) - 4, y(end), x(dot.x) + 4, y(end), "whisker") for end in ends]
    parts.append(element("circle", cx=_at(x(dot.x)), cy=_at(y(dot.y)), r=3.6, class_="dot"))
    return parts


def _bound(bound: Bound, x: Scale, y: Scale) -> Markup:
    """Draw what a claim demands: a bar, and an arrow to the good side."""
    down = 1 if bound.direction == "at_most" else -1
    across, level = x(bound.x), y(bound.y)
    path = (
        f"M{_at(across - 11)} {_at(level)}h22"
        f"M{_at(across)} {_at(level)}v{8 * down}m-3 {-3 * down}l3 {3 * down}l3 {-3 * down}"
    )
    return element("path", d=path, class_="bound")


def _ends(dot: Dot) -> list[float]:
    """Both ends of the interval, or none."""
    return [] if dot.low is None or dot.high is None else [dot.low, dot.high]


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=_at(x1), y1=_at(y1), x2=_at(x2), y2=_at(y2), class_=class_)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    place = {"text-anchor": anchor}
    return element("text", words, x=_at(x), y=_at(y), attributes=place)


def _at(value: float) -> str:
    """Write a place in the drawing, short."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
