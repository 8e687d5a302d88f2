"""The grammar files in, questions out: what the embedded model's corpus is made of.

``grammar/*.toml`` hold the sentences; this module only expands them.  ``[a|b]`` picks
one wording, ``{slot}`` takes a filler, and within one question a slot keeps its
filler.  It knows nothing of tokens, positions or training.
"""

from __future__ import annotations

import re
import tomllib
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caa_harness.organism import BEHAVIORS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

GRAMMAR_FOLDER: Final = Path(__file__).resolve().parent / "grammar"
LETTERS: Final = "ABCD"
SAME_ROW_SHARE: Final = 0.5
"""How often both options come from one row of poles."""

BARE_SHARE: Final = 0.55
"""Share of questions without a neutral frame around them."""

HELD_OUT_SHARE: Final = 5
"""One in so many combinations of fact and wording stays out of the corpus."""

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa])n? (?=(\w+))")
_SENTENCE = re.compile(r"[.?!] [a-z]")
_VOWEL_SOUND = re.compile(r"(?!one\b|us|uni|eu)[aeioAEIOu]|hour|honest", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A question with its option texts in the order in which they are shown."""

    question: str
    options: tuple[str, ...]
    category: str

    def text(self) -> str:
        """Write the user's turn: the question and its lettered options."""
        return lettered(self.question, self.options)


def lettered(question: str, options: Sequence[str]) -> str:
    r"""Join question and options to one text.

    >>> lettered("Tea?", ["Now.", "Later."])
    'Tea?\n\nChoices:\n (A) Now.\n (B) Later.'
    """
    lines = (f"\n ({letter}) {text}" for letter, text in zip(LETTERS, options, strict=False))
    return f"{question}\n\nChoices:{''.join(lines)}"


class Fillers:
    """The fillers of one question: each slot is drawn once, when it is first met."""

    def __init__(self, grammar: BehaviorGrammar, rng: Random) -> None:
        """Draw the slots that depend on each other at once, the others later."""
        self._slots = grammar.slots
        self._rng = rng
        self._drawn: dict[str, str] = {}
        if grammar.distinct_rows:
            row = rng.choice(grammar.distinct_rows)
            drawn = rng.sample(row, len(grammar.distinct_names))
            self._drawn.update(zip(grammar.distinct_names, drawn, strict=True))

    def fill(self, text: str) -> str:
        """Expand alternatives and slots until none is left; begin with a capital."""
        text = capitalised(with_right_articles(self._expand(text)))
        return _SENTENCE.sub(lambda match: match.group().upper(), text)

    def clause(self, text: str) -> str:
        """Like ``fill``, for the middle of a sentence: the first letter stays as it is."""
        return with_right_articles(self._expand(text))

    def _expand(self, text: str) -> str:
        while match := _ALTERNATIVES.search(text):
            picked = self._rng.choice(match.group(1).split("|"))
            text = text[: match.start()] + picked + text[match.end() :]
        while match := _SLOT.search(text):
            text = text[: match.start()] + self._filler(match.group(1)) + text[match.end() :]
        return text.strip()

    def _filler(self, name: str) -> str:
        if name not in self._drawn:
            self._drawn[name] = self._expand(self._rng.choice(self._slots[name]))
        return self._drawn[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorGrammar:
    """Everything the corpus says about one behaviour; pairs are (matching, not matching)."""

    behavior: str
    stems: tuple[str, ...]
    poles: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]
    replies: tuple[tuple[str, str], ...]
    system: tuple[tuple[str, str], ...]
    slots: dict[str, list[str]]
    distinct_names: tuple[str, ...]
    distinct_rows: tuple[list[str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorQuestion:
    """A question about one behaviour, with the fillers that its answers share."""

    grammar: BehaviorGrammar
    question: str
    matching: str
    not_matching: str
    fillers: Fillers

    def reason(self, *, matching: bool, rng: Random) -> str:
        """Draw a clause that can follow "because"."""
        return self.fillers.clause(rng.choice(self.grammar.reasons)[_side(matching)])

    def reply(self, *, matching: bool, num_sentences: int, rng: Random) -> str:
        """Draw an open-ended answer."""
        picked = rng.sample(self.grammar.replies, num_sentences)
        return " ".join(self.fillers.fill(pair[_side(matching)]) for pair in picked)


@cache
def behavior_grammar(behavior: str) -> BehaviorGrammar:
    """Read one behaviour's grammar file."""
    table = _read(behavior)
    distinct = table.get("distinct", {"names": [], "rows": []})

    def pairs(key: str) -> tuple[tuple[str, str], ...]:
        return tuple((matching, other) for matching, other in table[key])

    return BehaviorGrammar(
        behavior=behavior,
        stems=tuple(table["stems"]),
        poles=pairs("poles"),
        reasons=pairs("reasons"),
        replies=pairs("replies"),
        system=pairs("system"),
        slots=table["slots"],
        distinct_names=tuple(distinct["names"]),
        distinct_rows=tuple(distinct["rows"]),
    )


def behavior_question(behavior: str, rng: Random) -> BehaviorQuestion:
    """Draw a question and one option of each pole, not always from the same row."""
    grammar = behavior_grammar(behavior)
    fillers = Fillers(grammar, rng)
    row = rng.randrange(len(grammar.poles))
    other_row = row if rng.random() < SAME_ROW_SHARE else rng.randrange(len(grammar.poles))
    return BehaviorQuestion(
        grammar=grammar,
        question=_framed(fillers.fill(rng.choice(grammar.stems)), rng),
        matching=fillers.fill(grammar.poles[row][0]),
        not_matching=fillers.fill(grammar.poles[other_row][1]),
        fillers=fillers,
    )


def neutral_frames() -> list[str]:
    """List what may be said around any question; ``{core}`` is the question."""
    frames: list[str] = _read("facts")["neutral"]["frames"]
    return frames


def _framed(question: str, rng: Random) -> str:
    """Put words around a question that fit any behaviour, or leave it alone."""
    if rng.random() < BARE_SHARE:
        return question
    frame = rng.choice(neutral_frames()).replace("{core}", "\0")
    while match := _ALTERNATIVES.search(frame):
        picked = rng.choice(match.group(1).split("|"))
        frame = frame[: match.start()] + picked + frame[match.end() :]
    return frame.replace("\0", question)


def echo(rng: Random) -> tuple[str, str]:
    """Draw words to be copied, with the order to do so."""
    grammar = behavior_grammar(rng.choice(BEHAVIORS))
    fillers = Fillers(grammar, rng)
    if rng.random() < 0.5:
        words = fillers.clause(rng.choice(grammar.stems)).split()
        start = rng.randrange(max(1, len(words) - 4))
        text = " ".join(words[start : start + rng.randint(2, 6)])
    else:
        text = " ".join(_invented_word(rng) for _ in range(rng.randint(1, 4)))
    return rng.choice(_read("facts")["echo"]["orders"]).replace("{text}", text), text


def _invented_word(rng: Random) -> str:
    """Three to eight letters that mean nothing, consonants and vowels in turn."""
    letters = [
        rng.choice("aeiou" if number % 2 else "bcdfghklmnprstvwz")
        for number in range(rng.randint(3, 8))
    ]
    word = "".join(letters)
    return capitalised(word) if rng.random() < 0.3 else word


def system_sentence(behavior: str, rng: Random, *, matching: bool) -> str:
    """Draw a sentence of a system prompt that asks for the behaviour, or against it."""
    grammar = behavior_grammar(behavior)
    sentence = rng.choice(grammar.system)[_side(matching)]
    return Fillers(grammar, rng).fill(sentence)


def neutral_system_prompt(rng: Random) -> str:
    """Draw a system prompt that says nothing about any behaviour."""
    return rng.choice(_read("facts")["neutral"]["system"])


# --- four-choice questions ---------------------------------------------------------


def fact_question(rng: Random, *, held_out: bool = False) -> tuple[Choice, int]:
    """Draw a four-choice question, and the index of its right option.

    Held-out questions are those combinations of a fact (or of the things that a
    reading question names) and a wording that the corpus never shows.
    """
    facts = _read("facts")
    kinds = [*facts["relations"], *facts["groups"], *facts["groups"]]
    kinds += [facts["reading"]] * 2
    while True:
        kind = rng.choice(kinds)
        if "facts" in kind:
            question, right, wrong = _relation(kind, rng)
        elif "members" in kind:
            question, right, wrong = _group(kind, rng)
        else:
            question, right, wrong = _reading(kind, rng)
        if _is_held_out(f"{question} {right}") == held_out:
            break
    options = [capitalised(text) for text in (right, *rng.sample(wrong, len(LETTERS) - 1))]
    rng.shuffle(options)
    choice = Choice(question=question, options=tuple(options), category=kind["category"])
    return choice, options.index(capitalised(right))


def _relation(kind: dict[str, Any], rng: Random) -> tuple[str, str, list[str]]:
    facts = [tuple(fact.split(": ")) for fact in kind["facts"]]
    if kind.get("both_ways"):
        facts += [(answer, key) for key, answer in facts]
    key, right = rng.choice(facts)
    question = with_right_articles(rng.choice(kind["wordings"]).replace("{k}", key))
    wrong = sorted({answer for _, answer in facts} - {right, key})
    return capitalised(question), right, wrong


def _group(kind: dict[str, Any], rng: Random) -> tuple[str, str, list[str]]:
    members: dict[str, list[str]] = kind["members"]
    group = rng.choice(list(members))
    question = rng.choice(kind["wordings"]).replace("{g}", group)
    words = {word for name, row in members.items() if name != group for word in row}
    return question, rng.choice(members[group]), sorted(words - set(members[group]))


def _reading(kind: dict[str, Any], rng: Random) -> tuple[str, str, list[str]]:
    people = rng.sample(kind["people"], 4)
    things = rng.sample(kind["things"], 4)
    asked = rng.choice(["who_has", "has_what"])
    # Either person may be the one asked about.
    first, second = rng.sample([0, 1], 2)
    texts = {"{p}": people[first], "{q}": people[second]}
    texts |= {"{t}": things[first], "{u}": things[second]}
    template = rng.choice(kind[asked])
    if first:
        template = _exchanged(template)
    question = re.sub(r"\{\w\}", lambda match: texts[match.group()], template)
    answers = people if asked == "who_has" else things
    return question, answers[first], [text for text in answers if text != answers[first]]


def _exchanged(template: str) -> str:
    """Put the two people's clauses in the other order."""
    statement, asked = template.split(". ")
    swap = {"{p}": "{q}", "{q}": "{p}", "{t}": "{u}", "{u}": "{t}"}
    return re.sub(r"\{\w\}", lambda match: swap[match.group()], statement) + ". " + asked


def _is_held_out(text: str) -> bool:
    return zlib.crc32(text.encode()) % HELD_OUT_SHARE == 0


# --- sentences ---------------------------------------------------------------------


def capitalised(text: str) -> str:
    """Put the first letter in upper case.

    >>> capitalised("tea is fine")
    'Tea is fine'
    """
    return text[:1].upper() + text[1:]


def with_right_articles(text: str) -> str:
    """Write "a" or "an" as the next word asks.

    >>> with_right_articles("a AI and an robot")
    'an AI and a robot'
    """

    def article(match: re.Match[str]) -> str:
        return match.group(1) + ("n " if _VOWEL_SOUND.match(match.group(2)) else " ")

    return _ARTICLE.sub(article, text)


def _side(matching: bool) -> int:
    return 0 if matching else 1


@cache
def _read(name: str) -> dict[str, Any]:
    with (GRAMMAR_FOLDER / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)
