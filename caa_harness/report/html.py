"""The HTML report: a ``caa-report/1`` in, one file out that needs nothing else.

No network, no script, one style sheet inside; its own content-security policy
forbids everything else.  Verdicts come first, then each behavior, then what it was
measured with and how to read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caa_harness import atomic
from caa_harness.report import words
from caa_harness.report.html_behavior import badge, estimate_cell, section
from caa_harness.report.markup import Markup, details, element, joined, table
from caa_harness.report.style import style_sheet

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STATES = {"passed": "pass", "not passed": "fail", "incomplete": "inconclusive"}
"""Which colours a headline has; its words say the same."""
MAX_REASONS = 20


def html_report(document: Mapping[str, Any]) -> str:
    """Write a report as one HTML page.

    Parameters
    ----------
    document
        A ``caa-report/1``, as ``report_document`` makes it or ``read_report`` reads it.

    Returns
    -------
    str
        ASCII.  Every text of the document is escaped.
    """
    behaviors = document["behaviors"]
    judged = words.judged_cases(document)
    names = _names([behavior["behavior"] for behavior in behaviors])
    state, _ = words.headline(document)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", attributes={"http-equiv": "Content-Security-Policy"}, content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element(
            "title",
            f"{state.capitalize()}: behaviors under steering, {words.moment(document['started'])}",
        ),
        Markup(f"<style>{style_sheet()}</style>"),
    )
    body = element(
        "body",
        element("a", "Skip to the verdicts", href="#overview", class_="skip"),
        element("header", element("h1", "Behaviors under steering"), _headline(document)),
        _sections(behaviors, names),
        element(
            "main",
            _overview(document, names, judged),
            _not_measured(document),
            *(
                section(behavior, name=name, judged=judged)
                for behavior, name in zip(behaviors, names, strict=True)
            ),
            _provenance(document),
            _how_to_read(),
        ),
        element("footer", _made_by(document), class_="small muted"),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def write_html(document: Mapping[str, Any], path: Path) -> None:
    """Write the page in one step, making its folder where there is none.

    Raises
    ------
    OSError
        When it cannot be written; a page that was there before is left as it was.
    """
    page = html_report(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, page)


def _names(behaviors: Sequence[str]) -> list[str]:
    """Give each section a name of its own, which a link can point at."""
    found: list[str] = []
    for behavior in behaviors:
        stem = "b-" + (re.sub(r"[^a-z0-9]+", "-", behavior.lower()).strip("-") or "behavior")
        name, count = stem, 1
        while name in found:
            count += 1
            name = f"{stem}-{count}"
        found.append(name)
    return found


def _headline(document: Mapping[str, Any]) -> Markup:
    """Say in words whether the gate passed, and what is missing."""
    state, sentence = words.headline(document)
    reasons = words.missing(document)
    items = [element("li", reason) for reason in reasons[:MAX_REASONS]]
    if len(reasons) > MAX_REASONS:
        items.append(element("li", f"and {len(reasons) - MAX_REASONS} more"))
    models = dict.fromkeys(behavior["model"]["name"] for behavior in document["behaviors"])
    facts = (
        ("Model", ", ".join(models) or words.NOT_MEASURED),
        ("Behaviors", str(len(document["behaviors"]))),
        ("Claims", words.count_words(document["counts"]).partition(": ")[2]),
        ("Started", words.moment(document["started"])),
        ("Exit status", str(document["exit_status"])),
    )
    return joined(
        element(
            "div",
            element("strong", state.capitalize(), class_="state"),
            element("p", sentence),
            element("ul", *items) if items else None,
            class_=f"verdict {STATES[state]}",
        ),
        element(
            "dl",
            *(element("div", element("dt", name), element("dd", fact)) for name, fact in facts),
            class_="facts",
        ),
    )


def _sections(behaviors: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Markup:
    """Link to each part of the page."""
    places = [("overview", "Verdicts")]
    places += [
        (name, behavior["behavior"]) for name, behavior in zip(names, behaviors, strict=True)
    ]
    places += [("provenance", "Measured with"), ("reading", "How to read it")]
    links = [element("li", element("a", words_, href=f"#{name}")) for name, words_ in places]
    return element("nav", element("ul", *links), aria_label="Parts of this report")


def _overview(document: Mapping[str, Any], names: Sequence[str], judged: set[str]) -> Markup:
    """Write a row for each behavior."""
    columns = (
        "Behavior",
        "Outcome",
        "Unsteered",
        "Shift at -1",
        "Shift at +1",
        "Letter move",
        "Answer mass",
        "Capability",
    )
    rows = [
        (
            joined(
                element("a", behavior["behavior"], href=f"#{name}"),
                element("span", f"layer {behavior['layer']}", class_="sub"),
            ),
            _outcome_cell(behavior, judged),
            _unsteered(behavior),
            _shift_cell(behavior, -1.0),
            _shift_cell(behavior, 1.0),
            _letter_cell(behavior),
            _mass_cell(behavior),
            _capability_cell(behavior),
        )
        for behavior, name in zip(document["behaviors"], names, strict=True)
    ]
    confidences = dict.fromkeys(
        words.percent(behavior["summary"].get("confidence")) for behavior in document["behaviors"]
    )
    caption = (
        f"Means over held-out questions with {' and '.join(confidences)} intervals, each taken "
        "alone; capability at the level at which its claim is judged"
    )
    return element(
        "section",
        element("h2", "Verdicts", id="overview-head"),
        table(caption, columns, rows, numeric=range(2, 8), class_="overview")
        if rows
        else element("p", "No behavior was measured."),
        id="overview",
        aria_labelledby="overview-head",
    )


def _outcome_cell(behavior: Mapping[str, Any], judged: set[str]) -> Markup:
    """Write the worst outcome, and how many claims pass."""
    outcomes = [words.outcome_of(claim, behavior, judged) for claim in behavior["claims"]]
    return element(
        "span",
        badge(words.worst(outcomes)),
        element("span", words.outcome_words(outcomes), class_="sub"),
    )


def _unsteered(behavior: Mapping[str, Any]) -> Markup:
    step = words.step_at(behavior, 0.0)
    return estimate_cell(None if step is None else step["score"])


def _shift_cell(behavior: Mapping[str, Any], wanted: float) -> Markup:
    """Write a shift; another multiplier than the wanted one is named."""
    step = words.nearest_step(behavior, wanted)
    if step is None:
        return estimate_cell(None)
    cell = estimate_cell(step["shift"], sign=True)
    if step["multiplier"] == wanted:
        return cell
    return joined(cell, element("span", f"at {words.at(step['multiplier'])}", class_="sub"))


def _letter_cell(behavior: Mapping[str, Any]) -> Markup:
    """Write the larger of the letter's moves."""
    steps = [words.nearest_step(behavior, wanted) for wanted in (-1.0, 1.0)]
    known = [
        step
        for step in steps
        if step is not None and step["letter"] is not None and step["letter"]["point"] is not None
    ]
    if not known:
        return estimate_cell(None)
    step = max(known, key=lambda step: abs(step["letter"]["point"]))
    return joined(
        estimate_cell(step["letter"], sign=True),
        element("span", f"at {words.at(step['multiplier'])}", class_="sub"),
    )


def _mass_cell(behavior: Mapping[str, Any]) -> Markup:
    """Write the lowest mean answer mass of all multipliers."""
    detail = behavior.get("detail", {}).get("answer_mass")
    if detail:
        known = [one for one in detail if one["estimate"]["point"] is not None]
        if known:
            one = min(known, key=lambda one: one["estimate"]["point"])
            where = element("span", f"at {words.at(one['multiplier'])}, the lowest", class_="sub")
            return joined(estimate_cell(one["estimate"]), where)
        return estimate_cell(None)
    steps = behavior["summary"]["multipliers"]
    masses = [(s["mass_mean"], s["score"]["n"]) for s in steps if s["mass_mean"] is not None]
    if not masses:
        return estimate_cell(None)
    mass, n = min(masses)
    return joined(words.number(mass), element("span", f"n = {n}, no interval", class_="sub"))


def _capability_cell(behavior: Mapping[str, Any]) -> Markup:
    """Write the judged part that comes closest to its bound, or the largest loss."""
    part = words.closest_part(behavior, "capability")
    if part is not None:
        cell = estimate_cell(part["estimate"], sign=True, bound=part["bound"])
        sign = "more than" if part["direction"] == "at_least" else "less than"
        return joined(cell, element("span", f"must be {sign} {part['bound_text']}", class_="sub"))
    losses = [step["capability_loss"] for step in behavior["summary"]["multipliers"]]
    known = [loss for loss in losses if loss is not None and loss["low"] is not None]
    if not known:
        return estimate_cell(None)
    cell = estimate_cell(min(known, key=lambda loss: loss["low"]), sign=True)
    return joined(cell, element("span", "no claim bounds it", class_="sub"))


def _not_measured(document: Mapping[str, Any]) -> Markup | None:
    """List the cases and files that ended in an error."""
    told = [(case["case"], case["error"]) for case in document["cases"] if case["error"]]
    told += [(entry["file"], entry["error"]) for entry in document["unread"]]
    if not told:
        return None
    items = [
        element("div", element("h3", element("code", place)), element("blockquote", error))
        for place, error in told
    ]
    return element(
        "section",
        element("h2", "Errors", id="errors-head"),
        *items,
        aria_labelledby="errors-head",
    )


def _provenance(document: Mapping[str, Any]) -> Markup:
    """Write what the numbers were made with."""
    behaviors = document["behaviors"]
    cards = {_card_key(behavior["model"]): behavior["model"] for behavior in behaviors}
    rows = [
        (
            joined(
                behavior["behavior"],
                element("span", element("code", behavior["file"]), class_="sub"),
            ),
            element("code", behavior["spec_digest"]),
            f"{behavior['scoring'].replace('_', ' ')}, {behavior['num_held_out']} questions"
            if "scoring" in behavior
            else f"{behavior['num_held_out']} questions",
            _vector(behavior),
        )
        for behavior in behaviors
    ]
    options = [(name, _plain_text(value)) for name, value in document["options"].items()]
    versions = [
        (name, version or "not installed") for name, version in document["packages"].items()
    ]
    return element(
        "section",
        element("h2", "What it was measured with", id="provenance-head"),
        *(
            table("Model card", ("Property", "Value"), _card_rows(card), class_="plain")
            for card in cards.values()
        ),
        element("h3", "Specs and vectors"),
        table("What was asked, and what was added", _SPEC_COLUMNS, rows)
        if rows
        else element("p", "No behavior was measured."),
        details(
            "Options of this run",
            table("Options", ("Option", "Value"), options, class_="plain"),
        ),
        details(
            "Versions of what can move a number",
            table("Packages where the report was made", ("Package", "Version"), versions),
        ),
        id="provenance",
        aria_labelledby="provenance-head",
    )


_SPEC_COLUMNS = ("Behavior", "Spec digest", "Asked", "Vector")


def _card_key(card: Mapping[str, Any]) -> str:
    return repr(sorted((name, repr(value)) for name, value in card.items()))


def _card_rows(card: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """Write a model card, the packages of its machine on a row each."""
    rows = [
        (name.replace("_", " "), element("code", _plain_text(value)))
        for name, value in card.items()
        if name != "packages"
    ]
    packages = card.get("packages", {})
    return rows + [(f"{name} there", element("code", packages[name])) for name in packages]


def _vector(behavior: Mapping[str, Any]) -> Markup:
    """Describe the vector that was added."""
    vector = behavior.get("vector")
    if vector is None:
        return element("span", words.NOT_MEASURED)
    return element(
        "span",
        f"layer {vector['layer']}, {vector['num_pairs']} pairs, norm "
        f"{words.number(vector['norm'])} ({vector['normalisation']}) in residuals of mean norm "
        f"{words.number(vector['mean_residual_norm'])}",
        element("span", element("code", vector["digest"]), class_="sub"),
    )


def _plain_text(value: object) -> str:
    """Write an option; one that is not given is said so."""
    if value is None:
        return "not given"
    return str(value)


_READING = {
    "Score, unsteered": """
        The mean probability of the answer that shows the behavior, of the two offered. Every
        question is asked with the letters in both orders, so that a liking for a letter
        cancels.""",
    "Shift": """
        The score under steering minus the unsteered score of the same questions. A multiplier
        of 1 adds the steering vector once; -1 takes it away.""",
    "Letter move": """
        How far steering moved p(A) itself, whatever stood behind it. Where it is as large as
        the shift, the vector carries letters and not the behavior.""",
    "Answer mass": """
        How much of the whole vocabulary's probability the two letters hold. Where it is low,
        the model answers something else and a score means little.""",
    "Capability": """
        The probability of the right option on questions that have nothing to do with the
        behavior: what steering costs.""",
    "[low, high], n": """
        An interval, and the number of questions behind it. Questions that share a stem count
        as one cluster. In the tables of numbers each interval has the spec's confidence, taken
        alone; under a claim it has the level at which that claim was judged, which is
        stricter, because many claims share one error rate.""",
    "pass, fail, inconclusive": """
        pass: the whole interval lies on the side of the bound that the claim asks for. fail:
        the claim is refuted. inconclusive: there are too few questions to tell, and that is no
        pass; 'n to decide' says about how many would do. not judged: the case did not run.""",
}


def _how_to_read() -> Markup:
    """Explain every word of the tables."""
    entries = [part for name, told in _READING.items() for part in _entry(name, told)]
    return element(
        "section",
        element("h2", "How to read it", id="reading-head"),
        element("dl", *entries, class_="reading"),
        id="reading",
        aria_labelledby="reading-head",
    )


def _entry(name: str, told: str) -> tuple[Markup, Markup]:
    return element("dt", element("b", name)), element("dd", " ".join(told.split()))


def _made_by(document: Mapping[str, Any]) -> Markup:
    version = document["packages"].get("caa-harness") or "of unknown version"
    return element(
        "p", f"caa-harness {version}, {document['format']}, {words.moment(document['started'])}"
    )
