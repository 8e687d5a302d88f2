"""Lint: what is allowed in a spec, and still makes its result weaker than it looks.

A spec that loads comes in; findings with source positions go out, and a few
questions to be read by a person.  Findings are suspicions, each with what it
was counted from; none of them changes a verdict.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import stats

from caa_harness.authoring.power import claim_powers
from caa_harness.errors import PromptError
from caa_harness.spec import spec_warnings
from caa_harness.spec.rules import fold
from caa_harness.strict_json import read_json, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from caa_harness.prompts import PromptWriter
    from caa_harness.spec import BehaviorSpec, ContrastivePair, HeldOutQuestion
    from caa_harness.strict_json import Document, Problem, Token

    TwoAnswers = ContrastivePair | HeldOutQuestion

MIN_ROWS: Final = 8
"""Below this many rows nothing is said of words and lengths."""
CUE_SHARE: Final = 0.5
"""Share of rows that a word must tell the sides apart in."""
CUE_PURITY: Final = 0.95
"""Share of the rows it stands in on one side only, that it must stand in on the same side."""
CHANCE: Final = 0.001
"""Two-sided p below which a difference in length is no accident."""
LONGER_SHARE: Final = 0.75
SIMILAR: Final = 0.8
"""Share of two questions' words that they have in common (Jaccard), above which they are near."""
MIN_WORDS: Final = 5
LONG_QUESTION: Final = 2000
LONG_ANSWER: Final = 500
"""In characters."""
MOST_TOKENS: Final = 1024
SAMPLE: Final = 5

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One suspicion: which rule, and the problem with its place."""

    rule: str
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCheck:
    """One row for a person to hold against the spec's ``sign``."""

    where: str
    question: str
    matching: str
    not_matching: str


def lint(spec: BehaviorSpec) -> tuple[Finding, ...]:
    """Find what makes the spec's result weaker than it looks, in the order of the rules."""
    places = _Places(spec)
    found = [*_known(spec, places)]
    for section, rows in (("pairs", spec.pairs), ("held_out", spec.held_out)):
        found += _cues(section, rows, places)
        found += _lengths(section, rows, places)
        found += _long_texts(section, rows, places)
    found += _near(spec, places)
    found += _weak(spec, places)
    return tuple(found)


def lint_prompts(
    spec: BehaviorSpec, writer: PromptWriter, *, most_tokens: int = MOST_TOKENS
) -> tuple[Finding, ...]:
    """Write every question as one model reads it; find those that cannot be, or are long."""
    places = _Places(spec)
    found = []
    rows: list[tuple[str, int, TwoAnswers]] = [
        *(("pairs", index, row) for index, row in enumerate(spec.pairs)),
        *(("held_out", index, row) for index, row in enumerate(spec.held_out)),
    ]
    for section, index, row in rows:
        options = (row.matching, row.not_matching)
        try:
            prompts = [writer.question(row.question, one) for one in (options, options[::-1])]
        except PromptError as error:
            problem = places.problem(section, index, (), error.found, error.remedy)
            found.append(Finding(rule="tokens", problem=problem))
            continue
        longest = max(len(prompt.ids) for prompt in prompts)
        if longest > most_tokens:
            told = f"the prompt takes {longest:,} tokens, more than {most_tokens:,}"
            problem = places.problem(section, index, (), told, "shorten the question")
            found.append(Finding(rule="tokens", problem=problem))
    return tuple(found)


def sign_sample(spec: BehaviorSpec, number: int = SAMPLE) -> tuple[SignCheck, ...]:
    """Draw rows for a person to read, the same ones for the same spec."""
    places = _Places(spec)
    rows: list[tuple[str, int, TwoAnswers]] = [
        *(("pairs", index, row) for index, row in enumerate(spec.pairs)),
        *(("held_out", index, row) for index, row in enumerate(spec.held_out)),
    ]
    dice = random.Random(f"{spec.seed} {spec.digest}")  # noqa: S311  (no secret)
    drawn = sorted(dice.sample(range(len(rows)), min(number, len(rows))))
    return tuple(
        SignCheck(
            where=places.problem(section, index, (), "", "").where,
            question=row.question,
            matching=row.matching,
            not_matching=row.not_matching,
        )
        for section, index, row in (rows[place] for place in drawn)
    )


def lint_text(spec: BehaviorSpec, findings: Sequence[Finding], review: int) -> str:
    """Write what was found, and ``review`` rows to be read, for a person."""
    lines = [
        (
            f"{spec.path}: {spec.behavior}, {len(spec.pairs)} pairs, "
            f"{len(spec.held_out)} held-out questions, {len(spec.claims)} claims"
        )
    ]
    for finding in findings:
        told = str(finding.problem).replace("\n", "\n  ")
        lines.append(f"  warning ({finding.rule}): {told}")
    sample = sign_sample(spec, review)
    if sample:
        lines.append(f"  read these: does the answer marked > do this? {spec.sign}")
    for row in sample:
        lines += [f"    {row.where}", *(f"      {line}" for line in row.question.splitlines())]
        lines += [f"      > {row.matching}", f"        {row.not_matching}"]
    return "\n".join(lines)


def lint_json(spec: BehaviorSpec, findings: Sequence[Finding], review: int) -> dict[str, Any]:
    """Write the same as a JSON object."""
    return {
        "path": str(spec.path),
        "behavior": spec.behavior,
        "digest": spec.digest,
        "num_pairs": len(spec.pairs),
        "num_held_out": len(spec.held_out),
        "claims": [claim.id for claim in spec.claims],
        "warnings": [
            {
                "rule": finding.rule,
                "file": str(finding.problem.path),
                "line": finding.problem.line,
                "column": finding.problem.column,
                "pointer": finding.problem.pointer,
                "found": finding.problem.found,
                "remedy": finding.problem.remedy,
            }
            for finding in findings
        ],
        "sign": spec.sign,
        "sign_review": [asdict(row) for row in sign_sample(spec, review)],
    }


class _Places:
    """Where the rows of a spec stand in its files."""

    def __init__(self, spec: BehaviorSpec) -> None:
        self._document = read_json(spec.path)
        self._rows: dict[str, list[Document]] = {}
        for section in ("pairs", "held_out", "capability"):
            value = self._document.value.get(section)
            if isinstance(value, dict):
                self._rows[section] = read_jsonl(spec.path.parent / value["file"])

    def problem(
        self, section: str, index: int | None, tokens: Sequence[Token], found: str, remedy: str
    ) -> Problem:
        """Make a problem at a part of a row, or at the section where ``index`` is ``None``."""
        rows = self._rows.get(section)
        if index is None:
            return self._document.problem([section], found, remedy)
        if rows is None:
            return self._document.problem([section, index, *tokens], found, remedy)
        return rows[index].problem(tokens, found, remedy)

    def claim(self, index: int, found: str, remedy: str) -> Problem:
        """Make a problem at a claim."""
        return self._document.problem(["claims", index], found, remedy)


def _known(spec: BehaviorSpec, places: _Places) -> Iterator[Finding]:
    """Repeat what reading a spec warns of already."""
    for warning in spec_warnings(spec):
        remedy = "add questions, or group those that share a stem by a cluster"
        yield Finding(
            rule="few-or-repeated",
            problem=places.problem("held_out", None, (), warning, remedy),
        )


def _cues(section: str, rows: Sequence[TwoAnswers], places: _Places) -> Iterator[Finding]:
    """Words, and first words, that alone tell the matching answer from the other one."""
    if len(rows) < MIN_ROWS:
        return
    told: set[str] = set()
    readings: tuple[tuple[str, Callable[[str], set[str]]], ...] = (
        ("", _words),
        ("as first word ", _first_word),
    )
    for kind, read in readings:
        matching: Counter[str] = Counter()
        other: Counter[str] = Counter()
        for row in rows:
            left, right = read(row.matching), read(row.not_matching)
            matching.update(left - right)
            other.update(right - left)
        for word in sorted(matching.keys() | other.keys()):
            ours, theirs = matching[word], other[word]
            most = max(ours, theirs)
            if word in told or most < CUE_SHARE * len(rows) or most < CUE_PURITY * (ours + theirs):
                continue
            told.add(word)
            yield Finding(
                rule="cue-word",
                problem=places.problem(
                    section,
                    None,
                    (),
                    f'"{word}" stands {kind}in the matching answer alone in {ours} of '
                    f"{len(rows)} rows, in the other alone in {theirs}: "
                    "the word tells the sides apart",
                    "vary the words, or what is steered and measured may be the word",
                ),
            )


def _lengths(section: str, rows: Sequence[TwoAnswers], places: _Places) -> Iterator[Finding]:
    """Find matching answers that are nearly always the longer, or the shorter, ones."""
    longer = sum(len(row.matching) > len(row.not_matching) for row in rows)
    shorter = sum(len(row.matching) < len(row.not_matching) for row in rows)
    differing = longer + shorter
    if differing < MIN_ROWS:
        return
    word, most = ("longer", longer) if longer >= shorter else ("shorter", shorter)
    if most < LONGER_SHARE * len(rows) or stats.binomtest(most, differing).pvalue >= CHANCE:
        return
    mean = sum(len(row.matching) - len(row.not_matching) for row in rows) / len(rows)
    yield Finding(
        rule="length",
        problem=places.problem(
            section,
            None,
            (),
            f"the matching answer is the {word} one in {most} of {len(rows)} rows "
            f"(by {abs(mean):.0f} characters in the mean): length tells the sides apart",
            f"write matching answers that are not the {word} ones as well",
        ),
    )


def _long_texts(section: str, rows: Sequence[TwoAnswers], places: _Places) -> Iterator[Finding]:
    """Texts so long that a prompt may be cut, or take most of the time."""
    for index, row in enumerate(rows):
        for key, most in (
            ("question", LONG_QUESTION),
            ("matching", LONG_ANSWER),
            ("not_matching", LONG_ANSWER),
        ):
            length = len(getattr(row, key))
            if length > most:
                yield Finding(
                    rule="long-text",
                    problem=places.problem(
                        section,
                        index,
                        [key],
                        f"a text of {length:,} characters, more than {most:,}",
                        "shorten it; every order and every intervention computes it again",
                    ),
                )


def _near(spec: BehaviorSpec, places: _Places) -> Iterator[Finding]:
    """Rows that say nearly the same: among the pairs, among the held-out ones, across."""
    pairs = [_words(f"{p.question} {p.matching} {p.not_matching}") for p in spec.pairs]
    asked = [_words(pair.question) for pair in spec.pairs]
    held = [_words(question.question) for question in spec.held_out]
    yield from _report(
        "near-duplicate",
        places,
        [("pairs", later, "pairs", first) for first, later in _close(pairs, pairs, same=True)],
        "nearly the words of the pair at {other}",
        "say something new, or take one away: a pair that stands twice weighs twice",
    )
    yield from _report(
        "near-leak",
        places,
        [
            ("held_out", row, "pairs", pair)
            for pair, row in _close(asked, held, same=False)
            if fold(spec.pairs[pair].question) != fold(spec.held_out[row].question)
        ],
        "this held-out question has nearly the words of the pair at {other}",
        "ask something else: the vector was made from a question like this one",
    )
    clusters = [question.cluster for question in spec.held_out]
    yield from _report(
        "unclustered",
        places,
        [
            ("held_out", later, "held_out", first)
            for first, later in _close(held, held, same=True)
            if clusters[first] is None or clusters[first] != clusters[later]
        ],
        "nearly the words of the question at {other}, and no cluster in common: "
        "they count as independent",
        'give both the same "cluster", or ask something else',
    )


def _report(
    rule: str,
    places: _Places,
    found: Sequence[tuple[str, int, str, int]],
    words: str,
    remedy: str,
) -> Iterator[Finding]:
    """One finding for each row, at the first row that it is near to."""
    first: dict[tuple[str, int], tuple[str, int]] = {}
    for section, row, other_section, other in found:
        first.setdefault((section, row), (other_section, other))
    for (section, row), (other_section, other) in sorted(first.items()):
        where = places.problem(other_section, other, (), "", "")
        text = words.format(other=f"{where.path.name}:{where.line}")
        yield Finding(rule=rule, problem=places.problem(section, row, (), text, remedy))


def _close(
    left: Sequence[set[str]], right: Sequence[set[str]], *, same: bool
) -> list[tuple[int, int]]:
    """Rows of both lists whose words are mostly the same; short texts are left out."""
    vocabulary = {word: place for place, word in enumerate(sorted(set().union(*left, *right)))}
    tables = []
    for texts in (left, right):
        table = np.zeros((len(texts), len(vocabulary)), dtype=np.float32)
        for row, words in enumerate(texts):
            if len(words) >= MIN_WORDS:
                table[row, [vocabulary[word] for word in words]] = 1.0
        tables.append(table)
    common = tables[0] @ tables[1].T
    union = tables[0].sum(axis=1)[:, None] + tables[1].sum(axis=1)[None] - common
    near = (common >= SIMILAR * union) & (common > 0.0)
    if same:
        near = np.triu(near, k=1)
    return [(int(a), int(b)) for a, b in np.argwhere(near)]


def _weak(spec: BehaviorSpec, places: _Places) -> Iterator[Finding]:
    """Claims that even their good case would often leave undecided."""
    for index, power in enumerate(claim_powers(spec)):
        if not power.is_weak:
            continue
        needed = "" if power.n_for_room is None else f"; about {power.n_for_room:,} would do"
        yield Finding(
            rule="power",
            problem=places.claim(
                index,
                f"{power.num_clusters} independent numbers find {power.detectable:.3g} beyond "
                f"the bound (80 % power, one-sided level {power.alpha:.2g}, assumed sd "
                f"{power.sd:g}), but the claim's good case is {power.room:.3g} away{needed}",
                "add questions, or claim less: else expect an undecided verdict",
            ),
        )


def _words(text: str) -> set[str]:
    """Words of a text, in lower case."""
    return set(_WORD.findall(fold(text)))


def _first_word(text: str) -> set[str]:
    found = _WORD.search(fold(text))
    return {found.group()} if found else set()
