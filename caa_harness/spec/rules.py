"""Rules that a schema cannot state: what the parts of one spec must not say together.

A parsed spec and its rows come in; problems with source positions go out.
Every rule steps over parts of the wrong type, because the schema has named
those already, so that one mistake makes one message.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from caa_harness.spec.schema import did_you_mean, show
from caa_harness.strict_json import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from caa_harness.strict_json import Document, Problem, Token

FILE_SUFFIX: Final = ".behavior.json"
MIN_DOSES: Final = 3
MIN_OPTIONS: Final = 2
LONGEST_ID: Final = 80

_LETTER: Final = re.compile(r"\s*\(?([A-Za-z])\)(?:\s|$)")
_LETTER_AND_POINT: Final = re.compile(r"\s*([A-Z])[.:](?:\s|$)")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PUBLISHED: Final = re.compile(r"\(A\)(?P<a>.*)\(B\)(?P<b>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a section, from the spec itself or from a JSONL file."""

    document: Document
    tokens: tuple[Token, ...]
    value: Any

    def problem(self, tokens: Sequence[Token], found: str, remedy: str) -> Problem:
        """Make a problem at a part of this row."""
        return self.document.problem([*self.tokens, *tokens], found, remedy)

    def text(self, key: str) -> str | None:
        """Text under a key, None where there is none that can be compared."""
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return value if isinstance(value, str) and value.strip() else None

    def __str__(self) -> str:
        """File and line, to point at the row from another one's message."""
        line, _ = self.document.position(self.tokens)
        return f"{shown_path(self.document.path)}:{line}"


Sections = dict[str, list[Row]]
"""Rows of ``pairs``, ``held_out`` and ``capability``."""


def fold(text: str) -> str:
    r"""Text without what a reader does not see: case, spacing, compatibility forms.

    Examples
    --------
    >>> fold("  Is it\n SO? ")
    'is it so?'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def rule_problems(document: Document, sections: Sections) -> Iterator[Problem]:
    """Everything that is wrong with a spec whose parts may each be right."""
    spec = document.value
    yield from _name_problems(document, spec)
    yield from _multiplier_problems(document, spec)
    yield from _prompt_problems(document, spec)
    as_published = spec.get("scoring") == "paper"
    for name in ("pairs", "held_out"):
        for row in sections[name]:
            yield from _two_answer_problems(row, as_published=as_published)
    for row in sections["capability"]:
        yield from _item_problems(row, as_published=as_published)
    if as_published:
        yield from _unpublished(sections)
    else:
        yield from _repeats(sections)
    yield from _claim_problems(document, spec)


def _name_problems(document: Document, spec: Mapping[str, Any]) -> Iterator[Problem]:
    behavior = spec.get("behavior")
    if not isinstance(behavior, str) or not _NAME.fullmatch(behavior):
        return
    expected = behavior + FILE_SUFFIX
    if document.path.name != expected:
        stem = document.path.name.removesuffix(FILE_SUFFIX)
        yield document.problem(
            ["behavior"],
            f"the behavior is {show(behavior)}, but the file is called {document.path.name}",
            f"rename the file to {expected}, or write {show(stem)}",
        )


def _multiplier_problems(document: Document, spec: Mapping[str, Any]) -> Iterator[Problem]:
    multipliers = spec.get("multipliers")
    if not isinstance(multipliers, list):
        return
    yield from _repeated_entries(document, ["multipliers"], multipliers)
    if multipliers and all(map(_is_number, multipliers)) and 0 not in multipliers:
        yield document.problem(
            ["multipliers"],
            "no baseline: 0 is not among the multipliers",
            "add 0, so that every shift has something to be measured from",
        )


def _repeated_entries(
    document: Document, tokens: Sequence[Token], entries: Sequence[Any]
) -> Iterator[Problem]:
    seen: set[float | str] = set()
    for index, entry in enumerate(entries):
        if not (_is_number(entry) or isinstance(entry, str)):
            continue
        if entry in seen:
            yield document.problem(
                [*tokens, index], f"{show(entry)} stands twice in {tokens[-1]}", "keep one of them"
            )
        seen.add(entry)


def _prompt_problems(document: Document, spec: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("description", "sign"):
        yield from _control_problems(Row(document=document, tokens=(), value=spec), key)
    system = Row(document=document, tokens=("system_prompts",), value=spec.get("system_prompts"))
    for key in ("positive", "negative"):
        yield from _control_problems(system, key)
    positive, negative = system.text("positive"), system.text("negative")
    if positive and negative and fold(positive) == fold(negative):
        yield system.problem(
            ["negative"],
            "the negative system prompt is the same as the positive one",
            "write one that asks for the opposite",
        )
    prompts = spec.get("open_ended")
    seen: dict[str, Row] = {}
    for index, value in enumerate(prompts if isinstance(prompts, list) else []):
        row = Row(document=document, tokens=("open_ended", index), value=value)
        yield from _control_problems(row, "prompt")
        text = row.text("prompt")
        if text is None:
            continue
        first = seen.setdefault(fold(text), row)
        if first is not row:
            yield row.problem(["prompt"], f"this prompt stands at {first} already", "keep one")


def _control_problems(row: Row, *tokens: Token) -> Iterator[Problem]:
    value: Any = row.value
    for token in tokens:
        try:
            value = value[token]
        except (KeyError, IndexError, TypeError):
            return
    found = _CONTROL.search(value) if isinstance(value, str) else None
    if found is not None:
        yield row.problem(
            tokens,
            f"the text holds the control character \\u{ord(found.group()):04x}",
            "take it out; only line breaks (\\n) and tabs (\\t) are text",
        )


def _two_answer_problems(row: Row, *, as_published: bool) -> Iterator[Problem]:
    """Rules for one pair or one held-out question, asked as published or by the harness."""
    for key in ("question", "matching", "not_matching", "cluster"):
        yield from _control_problems(row, key)
    matching, not_matching = row.text("matching"), row.text("not_matching")
    if matching is None or not_matching is None:
        return
    if fold(matching) == fold(not_matching):
        yield row.problem(
            ["not_matching"],
            f"matching and not_matching are the same text, {show(matching)}",
            "write two answers that differ in more than spacing and case",
        )
    if not as_published:
        texts: dict[tuple[Token, ...], str] = {("matching",): matching}
        yield from _letter_problems(row, texts | {("not_matching",): not_matching})
    yield from _published_problems(row, matching, not_matching)


def _letter_problems(row: Row, texts: Mapping[tuple[Token, ...], str]) -> Iterator[Problem]:
    """Option texts that bring their own letters along."""
    pointed = [_LETTER_AND_POINT.match(text) for text in texts.values()]
    letters = sorted(found.group(1) for found in pointed if found is not None)
    all_pointed = letters == [chr(ord("A") + index) for index in range(len(texts))]
    for tokens, text in texts.items():
        if _LETTER.match(text) or all_pointed:
            yield row.problem(
                tokens,
                f"the answer brings its own letter, {show(text)}",
                "leave the letter out; the harness writes (A) and (B), in both orders",
            )


def _published_problems(row: Row, matching: str, not_matching: str) -> Iterator[Problem]:
    """Hold a published question to its two letters, and the right text under each."""
    published = row.value.get("as_published")
    if not isinstance(published, dict) or not isinstance(published.get("question"), str):
        return
    yield from _control_problems(row, "as_published", "question")
    found = _PUBLISHED.search(published["question"])
    if found is None:
        yield row.problem(
            ["as_published", "question"],
            "the published question does not offer the choices (A) and (B)",
            "write the question with its choices, to the letter as it was published",
        )
        return
    letter = published.get("matching_letter")
    if letter not in ("A", "B"):
        return
    under = {"A": fold(found["a"]), "B": fold(found["b"])}
    other = "B" if letter == "A" else "A"
    if under[letter] == fold(not_matching) and under[other] == fold(matching):
        yield row.problem(
            ["as_published", "matching_letter"],
            f"matching_letter is {letter}, but the matching answer stands under ({other})",
            f'write "{other}", or swap matching and not_matching',
        )


def _item_problems(row: Row, *, as_published: bool) -> Iterator[Problem]:
    """Rules for one capability item; one that was published keeps its own letters."""
    options = row.value.get("options") if isinstance(row.value, dict) else None
    for key in ("question", "category"):
        yield from _control_problems(row, key)
    if not isinstance(options, list) or len(options) < MIN_OPTIONS:
        return
    correct = row.value.get("correct")
    if isinstance(correct, int) and not isinstance(correct, bool) and correct >= len(options):
        yield row.problem(
            ["correct"],
            f"correct is {correct}, but there are only {len(options)} options",
            f"count options from 0, so write 0 to {len(options) - 1}",
        )
    texts: dict[tuple[Token, ...], str] = {
        ("options", index): text
        for index, text in enumerate(options)
        if isinstance(text, str) and text.strip()
    }
    seen: dict[str, int] = {}
    for tokens, text in texts.items():
        yield from _control_problems(row, *tokens)
        first = seen.setdefault(fold(text), int(tokens[1]))
        if first != tokens[1]:
            yield row.problem(
                tokens,
                f"option {tokens[1]} is the same as option {first}, {show(text)}",
                "write options that differ in more than spacing and case",
            )
    if not as_published:
        yield from _letter_problems(row, texts)


def _unpublished(sections: Sections) -> Iterator[Problem]:
    """Paper scoring asks questions as they were published, so it needs all of them."""
    for name in ("pairs", "held_out"):
        rows = [row for row in sections[name] if isinstance(row.value, dict)]
        without = [row for row in rows if "as_published" not in row.value]
        if without:
            yield without[0].problem(
                [],
                f'scoring is "paper", but {len(without)} of {len(rows)} rows of {name} '
                "have no as_published, this one first",
                'add as_published to each row, or write "scoring": "both_orders"',
            )


def _repeats(sections: Sections) -> Iterator[Problem]:
    """Rows that stand twice, and held-out questions that the vector was computed from."""
    asked: dict[str, Row] = {}
    for row in sections["pairs"]:
        question = row.text("question")
        if question is not None:
            asked.setdefault(fold(question), row)
    yield from _repeats_within(sections["pairs"], "pair")
    yield from _repeats_within(sections["held_out"], "held-out question")
    yield from _repeats_within(sections["capability"], "capability item")
    for row in sections["held_out"]:
        question = row.text("question")
        pair = asked.get(fold(question)) if question is not None else None
        if pair is not None:
            yield row.problem(
                ["question"],
                f"this held-out question also occurs among the pairs, at {pair}",
                "ask something that no vector is computed from, or take the pair away",
            )


def _repeats_within(rows: Sequence[Row], what: str) -> Iterator[Problem]:
    seen: dict[tuple[str, frozenset[str]], Row] = {}
    for row in rows:
        question = row.text("question")
        if question is None:
            continue
        first = seen.setdefault((fold(question), frozenset(map(fold, _answers(row)))), row)
        if first is row:
            continue
        swapped = (row.text("matching"), first.text("matching"))
        if swapped[0] and swapped[1] and fold(swapped[0]) != fold(swapped[1]):
            yield row.problem(
                [],
                f"this {what} contradicts the one at {first}: the same answers, swapped",
                "keep the one whose matching answer shows the behaviour",
            )
        else:
            yield row.problem([], f"this {what} stands at {first} already", "keep one of the two")


def _answers(row: Row) -> list[str]:
    options = row.value.get("options")
    texts = (
        options if isinstance(options, list) else [row.text("matching"), row.text("not_matching")]
    )
    return [text for text in texts if isinstance(text, str)]


def _claim_problems(document: Document, spec: Mapping[str, Any]) -> Iterator[Problem]:
    claims = spec.get("claims")
    multipliers = spec.get("multipliers")
    if not isinstance(multipliers, list) or not all(map(_is_number, multipliers)):
        multipliers = None
    seen: dict[str, int] = {}
    for index, claim in enumerate(claims if isinstance(claims, list) else []):
        kind = claim.get("type") if isinstance(claim, dict) else None
        if not isinstance(kind, str) or kind not in CLAIM_KEYS:
            continue
        tokens: list[Token] = ["claims", index]
        if multipliers is not None:
            yield from _claim_multiplier_problems(document, tokens, claim, multipliers)
        yield from _one_claim_problems(document, tokens, claim, spec)
        name = claim_id(claim, multipliers or [])
        if name is None:
            continue
        if "id" not in claim and len(name) > LONGEST_ID:
            yield document.problem(
                tokens,
                f"the claim's test case would have a name of {len(name)} characters",
                f'give it an "id" of at most {LONGEST_ID} characters',
            )
        first = seen.setdefault(name, index)
        if first != index:
            line, _ = document.position(["claims", first])
            yield document.problem(
                [*tokens, "id"] if "id" in claim else tokens,
                f"two claims are called {name}, the first on line {line}",
                'give each an "id" of its own' if "id" not in claim else "choose another id",
            )


def _claim_multiplier_problems(
    document: Document, tokens: list[Token], claim: Mapping[str, Any], multipliers: list[Any]
) -> Iterator[Problem]:
    """Claims about multipliers that are never measured, or about too few of them.

    A missing 0 is the spec's own problem, and named there.
    """
    named: list[tuple[list[Token], Any]] = [([*tokens, "multiplier"], claim.get("multiplier"))]
    listed = claim.get("multipliers")
    if isinstance(listed, list):
        yield from _repeated_entries(document, [*tokens, "multipliers"], listed)
        named += [([*tokens, "multipliers", place], value) for place, value in enumerate(listed)]
    for place, value in named:
        if _is_number(value) and value not in [0, *multipliers]:
            shown = ", ".join(map(format_multiplier, sorted(multipliers)))
            yield document.problem(
                place,
                f"{show(value)} is not among the spec's multipliers",
                f"use one of {shown}, or add {show(value)} to multipliers",
            )
    if claim["type"] == "dose_response" and listed is None and len(multipliers) < MIN_DOSES:
        yield document.problem(
            tokens,
            f"a dose response needs {MIN_DOSES} multipliers, the spec has {len(multipliers)}",
            "add multipliers, or claim a shift instead",
        )
    if claim["type"] == "capability" and listed is None and not any(multipliers):
        yield document.problem(
            tokens, "the spec has no multiplier but 0", "add multipliers that steer"
        )


def _one_claim_problems(
    document: Document, tokens: list[Token], claim: Mapping[str, Any], spec: Mapping[str, Any]
) -> Iterator[Problem]:
    low, high = claim.get("at_least"), claim.get("at_most")
    if _is_number(low) and _is_number(high) and low > high and claim["type"] == "level":
        yield document.problem(
            [*tokens, "at_least"],
            f"at_least {show(low)} is above at_most {show(high)}, so nothing can hold",
            "swap the two bounds",
        )
    if claim["type"] == "capability" and "capability" not in spec:
        yield document.problem(
            tokens,
            "a capability claim, but the spec has no capability questions",
            'add "capability": {"file": "..."}, or take the claim away',
        )
    against = claim.get("against")
    if claim["type"] == "specificity" and isinstance(against, list):
        yield from _repeated_entries(document, [*tokens, "against"], against)
        if isinstance(spec.get("behavior"), str) and spec["behavior"] in against:
            yield document.problem(
                [*tokens, "against", against.index(spec["behavior"])],
                "a behavior cannot be compared with itself",
                "name other behaviors of the folder",
            )


CLAIM_KEYS: Final[Mapping[str, str | None]] = {
    "shift": "multiplier",
    "level": "multiplier",
    "dose_response": "multipliers",
    "capability": "multipliers",
    "answer_mass": "multipliers",
    "letter_part": "multiplier",
    "null": "multiplier",
    "specificity": "multiplier",
}
"""Claim types, and which parameter tells two claims of one type apart."""


def claim_id(claim: Mapping[str, Any], multipliers: Sequence[float]) -> str | None:
    """Name of a claim: its ``id``, else its type with the multipliers it is about.

    ``None`` where the claim is too damaged to have a name.

    Examples
    --------
    >>> claim_id({"type": "capability", "max_loss": 0.1}, [-2, -1, 0, 1, 2])
    'capability[m-1,m+1]'
    >>> claim_id({"type": "answer_mass", "at_least": 0.8}, [-1, 0, 1])
    'answer_mass'
    """
    if "id" in claim:
        return claim["id"] if isinstance(claim["id"], str) else None
    kind = claim["type"]
    if CLAIM_KEYS[kind] == "multiplier":
        named = [claim.get("multiplier")]
    elif "multipliers" in claim:
        named = claim["multipliers"] if isinstance(claim["multipliers"], list) else [None]
    elif kind == "capability":
        named = list(default_capability_multipliers(multipliers))
    else:
        named = []
    numbers = [value for value in named if _is_number(value)]
    if len(numbers) < len(named):
        return None
    key = ",".join(f"m{format_multiplier(value)}" for value in sorted(numbers))
    return f"{kind}[{key}]" if key else kind


def default_capability_multipliers(multipliers: Sequence[float]) -> tuple[float, ...]:
    """Choose -1 and +1 where they are measured, else everything that steers."""
    ones = tuple(value for value in multipliers if abs(value) == 1)
    return ones or tuple(value for value in multipliers if value != 0)


def format_multiplier(value: float) -> str:
    """Write a multiplier with its sign and no more digits than it has.

    Examples
    --------
    >>> format_multiplier(1.0), format_multiplier(-0.5), format_multiplier(0)
    ('+1', '-0.5', '+0')
    """
    return f"{float(value) + 0.0:+}".removesuffix(".0")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_file(spec_path: Path, name: str) -> Path | tuple[str, str]:
    """Path of a file that a spec refers to, or what is wrong with it and what to do.

    The file must be a regular one inside the spec's folder, also after links
    are followed.
    """
    if "\\" in name or _CONTROL.search(name):
        return f"{show(name)} holds a backslash or a control character", "write folders with /"
    if name.startswith(("/", "~")) or re.match(r"[A-Za-z]:", name):
        return f"{show(name)} is an absolute path", "name a file in the spec's own folder"
    if ".." in name.split("/"):
        return f"{show(name)} leads out of the spec's folder", "name a file without .."
    path = spec_path.parent / name
    try:
        return _file_on_disk(path, name, spec_path.parent) or path
    except (OSError, RuntimeError) as error:
        return f"{show(name)} cannot be followed: {error}", "check the file and its links"


def _file_on_disk(path: Path, name: str, folder: Path) -> tuple[str, str] | None:
    if not path.resolve().is_relative_to(folder.resolve()):
        found = f"{show(name)} is a link that leads out of the spec's folder"
        return found, "put the file itself into the folder"
    if not path.exists():
        near = sorted(one.relative_to(folder).as_posix() for one in path.parent.glob("*.jsonl"))
        found = f"there is no file {show(name)} beside the spec{did_you_mean(name, near)}"
        return found, "check the name, or write the file"
    if not path.is_file():
        return f"{show(name)} is not a regular file", "name a file"
    return None
