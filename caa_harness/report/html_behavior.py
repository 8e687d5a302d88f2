"""One behavior's part of the HTML report: curves, claims, texts.

An entry of a report's ``behaviors`` comes in, markup goes out.  What an older
report does not hold is said to be missing, and nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caa_harness.report import svg, words
from caa_harness.report.markup import Markup, details, element, joined, table

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = {"pass": "\u2713", "fail": "\u2717", "inconclusive": "?", "not judged": "\u2013"}
"""So that an outcome is told by its word and its mark, and colour only repeats it."""

Behavior = Mapping[str, Any]


def badge(outcome: str) -> Markup:
    """Write an outcome: its mark and its word."""
    mark = element("span", MARKS[outcome], aria_hidden="true")
    return element("span", joined(mark, " ", outcome), class_=f"badge {outcome.replace(' ', '')}")


def section(behavior: Behavior, *, name: str, judged: set[str]) -> Markup:
    """Write all that is known of one behavior.

    Parameters
    ----------
    behavior
        An entry of a report's ``behaviors``.
    name : str
        Unique in the page, of letters, digits and dashes: what links point at.
    judged : set of str
        The cases that were judged in the session.
    """
    outcomes = [words.outcome_of(claim, behavior, judged) for claim in behavior["claims"]]
    told = joined(behavior["behavior"], " ", badge(words.worst(outcomes)))
    facts = (
        f"Layer {behavior['layer']} of {behavior['model'].get('num_layers', '?')} (counted from "
        f"0), {behavior['num_held_out']} held-out questions"
    )
    return element(
        "section",
        element("h2", told, id=f"{name}-head"),
        quoted(behavior.get("description"), tag="p"),
        quoted(behavior.get("sign"), tag="p"),
        element("p", facts, ", spec ", element("code", behavior["file"]), class_="small muted"),
        _notes(behavior),
        element("h3", "What each multiplier did"),
        _charts(behavior, name),
        details("The same numbers as a table", _numbers(behavior)),
        element("h3", "Claims"),
        *(_claim(behavior, claim, name=name, judged=judged) for claim in behavior["claims"]),
        element("h3", "Questions that moved least"),
        *_least_moved(behavior),
        element("h3", "Capability"),
        _categories(behavior),
        element("h3", "Open-ended answers"),
        *_open_ended(behavior),
        element("p", element("a", "Back to the table", href="#overview"), class_="small back"),
        id=name,
        class_="behavior",
        aria_labelledby=f"{name}-head",
    )


def quoted(text: str | None, *, tag: str = "blockquote") -> Markup | None:
    """Write a text of a spec or of a model as it is, in the direction of its own script."""
    return None if text is None else element(tag, text, dir="auto")


def estimate_cell(
    estimate: Mapping[str, Any] | None, *, sign: bool = False, bound: float | None = None
) -> Markup:
    """Write a point, under it its interval, under that its n."""
    point, *rest = words.point_interval_sample(estimate, sign=sign, bound=bound)
    lines = [element("span", line, class_="sub") for line in rest]
    return element("span", element("span", point, class_="n"), *lines)


def _notes(behavior: Behavior) -> Markup | None:
    """List what a reader should know besides the numbers."""
    found = [
        *behavior["notes"],
        *behavior["summary"].get("warnings", ()),
        *(f"not scored: {reason}" for reason in behavior.get("unscored", ())),
    ]
    if not found:
        return None
    items = [element("li", note) for note in dict.fromkeys(found)]
    return element("div", element("h4", "Notes"), element("ul", *items), class_="notes")


def _charts(behavior: Behavior, name: str) -> Markup:
    """Draw the four things that a multiplier moves."""
    return element(
        "div",
        _dose_response(behavior, name),
        _letter(behavior, name),
        _mass(behavior, name),
        _capability(behavior, name),
        class_="charts",
    )


def _dots(steps: Sequence[Mapping[str, Any]], key: str) -> list[svg.Dot]:
    """Take one estimate of each multiplier that has it."""
    found = []
    for step in steps:
        estimate = step[key]
        if estimate is not None:
            found.append(
                svg.Dot(
                    x=step["multiplier"],
                    y=estimate["point"],
                    low=estimate["low"],
                    high=estimate["high"],
                )
            )
    return found


def _with_start(dots: Sequence[svg.Dot]) -> list[svg.Dot]:
    """Add the unsteered start to changes from it: it is 0 by definition and has no interval."""
    start = svg.Dot(x=0.0, y=0.0, low=0.0, high=0.0)
    return sorted([*dots, start], key=lambda dot: dot.x)


def _heights(dots: Sequence[svg.Dot], *others: float) -> list[float]:
    """List every height that a drawing must show."""
    found = [height for dot in dots for height in (dot.y, dot.low, dot.high)]
    return [*(height for height in found if height is not None), *others]


def _figure(title: str, drawing: Markup | None, caption: str, *, missing: str) -> Markup:
    """Put a drawing under its title, or say why there is none."""
    shown = element("p", f"{words.NOT_MEASURED}: {missing}") if drawing is None else drawing
    under = None if drawing is None else element("figcaption", caption)
    return element("figure", element("h4", title), shown, under)


def _described(what: str, steps: Sequence[Mapping[str, Any]], key: str) -> str:
    """Say a curve in words, for those who do not see it."""
    told = [
        f"at {words.at(step['multiplier'])} {words.in_full(step[key], sign=key != 'score')}"
        for step in steps
        if step[key] is not None
    ]
    return f"{what}: {'; '.join(told)}."


def _dose_response(behavior: Behavior, name: str) -> Markup:
    """Draw the mean score over the multipliers, with what shifts and levels must reach."""
    steps = behavior["summary"]["multipliers"]
    dots = [dot for dot in _dots(steps, "score") if dot.y is not None]
    unsteered = words.step_at(behavior, 0.0)
    base = None if unsteered is None else unsteered["score"]["point"]
    confidence = words.percent(behavior["summary"].get("confidence"))
    bounds = []
    for claim in behavior["claims"]:
        asked = claim.get("claim", {})
        start = {"shift": base, "level": 0.0}.get(claim["type"])
        for direction in ("at_least", "at_most"):
            if start is not None and asked.get(direction) is not None:
                bound = start + asked[direction]
                bounds.append(svg.Bound(x=asked["multiplier"], y=bound, direction=direction))
    drawing = None
    if dots:
        drawing = svg.chart(
            f"{name}-dose",
            f"{behavior['behavior']}: mean score over multipliers",
            _described("Mean score", steps, "score"),
            dots,
            y_range=(0.0, 1.0),
            y_label="mean score",
            baseline=base,
            bounds=bounds,
        )
    n = next((step["score"]["n"] for step in steps if step["score"] is not None), 0)
    return _figure(
        "Dose and response",
        drawing,
        f"Mean probability of the answer that shows the behavior, n = {n}, {confidence} intervals. "
        "Dashed: unsteered. Bars with arrows: what shift and level claims ask for.",
        missing="no question has a score at any multiplier",
    )


def _letter(behavior: Behavior, name: str) -> Markup:
    """Draw how far steering moved the letters themselves."""
    steps = behavior["summary"]["multipliers"]
    dots = [dot for dot in _dots(steps, "letter") if dot.y is not None]
    # Seen against the behavior's own move: a letter part fills the panel only where it matters.
    shifts = [dot.y for dot in _dots(steps, "shift") if dot.y is not None]
    drawing = None
    if dots:
        reach = max(abs(height) for height in _heights(dots, *shifts, 0.01)) * 1.08
        drawing = svg.chart(
            f"{name}-letter",
            f"{behavior['behavior']}: move of the letter A over multipliers",
            _described("Move of p(A)", steps, "letter"),
            _with_start(dots),
            y_range=(-reach, reach),
            y_label="move of p(A)",
            baseline=0.0,
        )
    return _figure(
        "Letter part",
        drawing,
        "Move of p(A) with the answers behind the letters cancelled, on the scale of the "
        "behavior's own shift. At 0 nothing of a shift is letter.",
        missing="one letter order alone cannot tell letter from answer",
    )


def _mass(behavior: Behavior, name: str) -> Markup:
    """Draw the answer mass: its mean, and the lowest question."""
    steps = _mass_steps(behavior)
    dots = [dot for dot in _dots(steps, "mass") if dot.y is not None]
    lowest = [
        (step["multiplier"], step["mass_lowest"])
        for step in behavior["summary"]["multipliers"]
        if step.get("mass_lowest") is not None
    ]
    bounds = _parts_bounds(behavior, "answer_mass")
    drawing = None
    if dots:
        low = min(_heights(dots, *(value for _, value in lowest), *(b.y for b in bounds)))
        drawing = svg.chart(
            f"{name}-mass",
            f"{behavior['behavior']}: answer mass over multipliers",
            _described("Mean p(A) + p(B)", steps, "mass"),
            dots,
            y_range=(max(0.0, low - 0.08 * (1.0 - low) - 0.01), 1.0),
            y_label="p(A) + p(B)",
            bounds=bounds,
            lowest=lowest,
        )
    return _figure(
        "Answer mass",
        drawing,
        "Mean p(A) + p(B) of the whole vocabulary; hollow: the lowest single question. "
        "Where it is low, a score means little.",
        missing="no question has an answer mass",
    )


def _mass_steps(behavior: Behavior) -> list[dict[str, Any]]:
    """Give the answer masses of each multiplier as estimates, where the report has them."""
    detail = behavior.get("detail", {}).get("answer_mass")
    if detail is not None:
        return [{"multiplier": one["multiplier"], "mass": one["estimate"]} for one in detail]
    return [
        {
            "multiplier": step["multiplier"],
            "mass": {**step["score"], "point": step["mass_mean"], "low": None, "high": None},
        }
        for step in behavior["summary"]["multipliers"]
        if step.get("score") is not None
    ]


def _parts_bounds(behavior: Behavior, kind: str) -> list[svg.Bound]:
    """Find the bounds of claims that name several multipliers."""
    found = []
    for claim in behavior["claims"]:
        asked = claim.get("claim", {})
        bound = -asked["max_loss"] if "max_loss" in asked else asked.get("at_least")
        if claim["type"] == kind and bound is not None:
            found += [svg.Bound(x=m, y=bound, direction="at_least") for m in asked["multipliers"]]
    return found


def _capability(behavior: Behavior, name: str) -> Markup:
    """Draw what steering costs on the probe."""
    steps = behavior["summary"]["multipliers"]
    dots = [dot for dot in _dots(steps, "capability_loss") if dot.y is not None]
    bounds = _parts_bounds(behavior, "capability")
    drawing = None
    if dots:
        low, high = svg.padded(_heights(dots, *(b.y for b in bounds)), around=0.0)
        drawing = svg.chart(
            f"{name}-capability",
            f"{behavior['behavior']}: change of capability over multipliers",
            _described("Probability of the right option, change", steps, "capability_loss"),
            _with_start(dots),
            y_range=(low, high),
            y_label="change",
            baseline=0.0,
            bounds=bounds,
        )
    num_items = behavior["summary"].get("num_capability_items", 0)
    return _figure(
        "Capability",
        drawing,
        f"Probability of the right option of the probe, steered minus unsteered, n = {num_items}. "
        "Bars with arrows: the loss that claims allow.",
        missing="no capability probe was asked at a multiplier other than 0",
    )


def _numbers(behavior: Behavior) -> Markup:
    """Write every number of every multiplier as a table."""
    masses = {step["multiplier"]: step["mass"] for step in _mass_steps(behavior)}
    detail = behavior.get("detail", {}).get("wrong_way", ())
    wrong = {one["multiplier"]: one["estimate"] for one in detail}
    columns = (
        "Multiplier",
        "Score",
        "Shift",
        "Wrong way",
        "Letter move",
        "Answer mass",
        "Capability",
        "Its change",
    )
    rows = []
    for step in behavior["summary"]["multipliers"]:
        multiplier = step["multiplier"]
        start = element("span", "starting point", class_="muted") if multiplier == 0 else None
        rows.append(
            (
                words.at(multiplier),
                estimate_cell(step["score"]),
                start or estimate_cell(step["shift"], sign=True),
                start or _wrong_way(step, wrong.get(multiplier)),
                start or estimate_cell(step["letter"], sign=True),
                estimate_cell(masses.get(multiplier)),
                estimate_cell(step.get("capability")),
                start or estimate_cell(step["capability_loss"], sign=True),
            )
        )
    confidence = words.percent(behavior["summary"].get("confidence"))
    caption = f"Means with {confidence} intervals, each taken alone"
    return table(caption, columns, rows, numeric=range(1, 8))


def _wrong_way(step: Mapping[str, Any], estimate: Mapping[str, Any] | None) -> Markup:
    """Write the share of the questions that moved against the multiplier's sign."""
    if estimate is not None:
        return estimate_cell(estimate)
    n = None if step["shift"] is None else step["shift"]["n"]
    share = words.number(step.get("wrong_way"))
    return element("span", share, element("span", f"n = {n}, no interval", class_="sub"))


def _claim(behavior: Behavior, claim: Mapping[str, Any], *, name: str, judged: set[str]) -> Markup:
    """Write one claim's verdict: open where it is not supported."""
    outcome = words.outcome_of(claim, behavior, judged)
    place = f"{claim['file']}:{claim['line']}"
    number = next(i for i, one in enumerate(behavior["claims"]) if one is claim)
    told = joined(
        badge(outcome),
        element("b", claim["id"]),
        element("span", claim["reason"].partition(";")[0], class_="sub"),
    )
    warnings = [element("li", warning) for warning in claim["warnings"]]
    left_out = None
    if outcome == "not judged":
        left_out = element(
            "p", f"Its case was not judged in this session; the numbers say {claim['outcome']}."
        )
    return details(
        told,
        left_out,
        element("p", claim["reason"]),
        _parts(claim, f"{name}-c{number}") if claim["parts"] else None,
        element("ul", *warnings) if warnings else None,
        element("p", _error_rate(claim), " ", element("code", place), class_="small muted"),
        is_open=outcome != "pass",
    )


def _error_rate(claim: Mapping[str, Any]) -> str:
    """Say at which error rate the claim was judged."""
    p_pass, p_fail, alpha = (
        words.NOT_MEASURED if claim[key] is None else f"{claim[key]:.2g}"
        for key in ("p_pass", "p_fail", "alpha")
    )
    return (
        f"p(pass) {p_pass}, p(fail) {p_fail}; {alpha} or less decides (one-sided, "
        "Holm-adjusted over the spec's claims)."
    )


def _parts(claim: Mapping[str, Any], name: str) -> Markup:
    """Write each inequality of a claim, with its interval drawn against its bound."""
    heights = [
        height
        for part in claim["parts"]
        for height in (*(part["estimate"][key] for key in ("point", "low", "high")), part["bound"])
        if height is not None
    ]
    span = svg.padded(heights)
    rows = []
    for number, part in enumerate(claim["parts"]):
        estimate = part["estimate"]
        sign = "more than" if part["direction"] == "at_least" else "less than"
        asked = "" if part["is_required"] else "need only not be refuted"
        needed = part["n_needed"]
        shown = estimate["point"] is not None
        rows.append(
            (
                joined(part["name"], element("span", asked, class_="sub") if asked else None),
                element(
                    "span",
                    element(
                        "span",
                        part["text"] if shown else words.in_full(estimate),
                        class_="n",
                    ),
                    element(
                        "span",
                        f"{words.sample(estimate)}, {words.percent(estimate['confidence'])}",
                        class_="sub n",
                    ),
                ),
                f"{sign} {part['bound_text']}",
                svg.strip(
                    f"{name}-{number}",
                    f"{part['name']}: {part['text']}, must be {sign} {part['bound_text']}.",
                    svg.Dot(x=0.0, y=estimate["point"], low=estimate["low"], high=estimate["high"]),
                    bound=part["bound"],
                    direction=part["direction"],
                    span=span,
                )
                if shown
                else words.NOT_MEASURED,
                _decided(part) if needed is None else f"about {needed:,}",
            )
        )
    return table(
        "Estimates at the level at which the claim is judged",
        ("Part", "Estimate and interval", "Must be", "Interval and bound", "n to decide"),
        rows,
    )


def _decided(part: Mapping[str, Any]) -> str:
    """Say why no further questions are asked for."""
    distance = words.slack(part)
    if distance is None:
        return "no interval to judge by"
    if distance > 0 or part.get("is_refuted"):
        return "decided"
    return "no number would"


def _least_moved(behavior: Behavior) -> Iterator[Markup]:
    """Show the questions that moved least, with their texts."""
    groups = behavior.get("detail", {}).get("least_moved")
    if not groups:
        yield element("p", f"{words.NOT_MEASURED}: the report holds no scores of questions.")
        return
    for group in groups:
        multiplier = words.at(group["multiplier"])
        num_scored, num_wrong = group["num_scored"], group["num_wrong_way"]
        moved = f"{num_wrong} of {num_scored} questions moved the wrong way"
        told = f"At {multiplier}: {moved}"
        items = [
            element(
                "div",
                element(
                    "h4",
                    f"{words.number(one['unsteered'])} to {words.number(one['steered'])} "
                    f"({words.number(one['move'], sign=True)}), "
                    f"{'the wrong way' if one['is_wrong_way'] else 'the right way'}",
                ),
                quoted(one["question"]),
                element("p", "Shows the behavior: ", element("q", one["matching"], dir="auto")),
                element("p", "Does not: ", element("q", one["not_matching"], dir="auto")),
                element(
                    "p",
                    "question ",
                    element("code", one["digest"]),
                    f", cluster {one['cluster']}" if one["cluster"] else None,
                    class_="small muted",
                ),
                class_="item",
            )
            for one in group["items"]
        ]
        yield details(
            told,
            element(
                "p",
                f"The {len(items)} that moved least in the direction of {multiplier}, the worst "
                "first; scores of single questions, which have no interval.",
                class_="small muted",
            ),
            *items,
        )


def _categories(behavior: Behavior) -> Markup:
    """Write the capability probe by category."""
    categories = behavior.get("detail", {}).get("capability_categories")
    if not behavior["summary"].get("num_capability_items"):
        return element("p", f"{words.NOT_MEASURED}: the spec has no capability probe.")
    if not categories:
        return element("p", "The probe is one category; its numbers stand in the table above.")
    multipliers = [step["multiplier"] for step in categories[0]["multipliers"]]
    columns = [
        "Category",
        *(
            "Unsteered" if m == 0 else f"Change at {words.at(m)}"
            for m in sorted(multipliers, key=lambda m: (m != 0, m))
        ),
    ]
    rows = []
    for one in categories:
        steps = sorted(one["multipliers"], key=lambda s: (s["multiplier"] != 0, s["multiplier"]))
        cells = [
            estimate_cell(step["level"])
            if step["multiplier"] == 0
            else estimate_cell(step["change"], sign=True)
            for step in steps
        ]
        rows.append((element("span", one["category"], dir="auto"), *cells))
    confidence = words.percent(behavior["summary"].get("confidence"))
    return details(
        f"By category ({len(rows)} categories)",
        table(
            f"Probability of the right option, with {confidence} intervals, each taken alone; "
            "no claim is judged on a single category",
            columns,
            rows,
            numeric=range(1, len(columns)),
        ),
    )


def _open_ended(behavior: Behavior) -> Iterator[Markup]:
    """Show what the model goes on to say, side by side."""
    answers = behavior.get("open_ended") or ()
    if not answers:
        yield element(
            "p", f"{words.NOT_MEASURED}: ask for them with ", element("code", "--caa-open-ended N")
        )
        return
    prompts = dict.fromkeys(answer["prompt"] for answer in answers)
    blocks = []
    for prompt in prompts:
        sides = [
            element(
                "div",
                element("h4", "Unsteered" if m == 0 else f"At {words.at(m)}"),
                quoted(text) if text else element("p", "(nothing)"),
            )
            for m, text in sorted(
                (one["multiplier"], one["text"]) for one in answers if one["prompt"] == prompt
            )
        ]
        blocks.append(
            element(
                "div",
                element("p", element("b", prompt, dir="auto")),
                element("div", *sides, class_="sides"),
                class_="item",
            )
        )
    yield details(
        f"{len(prompts)} prompt{'' if len(prompts) == 1 else 's'}, greedy, side by side",
        element("p", "Examples, not evidence: no claim is judged on them.", class_="small muted"),
        *blocks,
    )
