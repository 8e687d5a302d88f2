r"""The fake engine: a model that can be checked by hand, in NumPy alone.

It reads the words of the options against a lexicon that it is given, and answers
by one line of arithmetic, so that the rest of the harness can be tested in
milliseconds.  It is no language model, and no number from it says anything of one.

The arithmetic.  An option's stance on a behaviour is +1 when it holds one of the behaviour's
matching words, -1 when it holds one of the others, 0 for neither (or both).  The lean of a
prompt is, for each behaviour ``b``,

    lean_b = base_b + 0.75 * stance_b(system prompt) + jitter_b(question)
             + gain(layer) * reach * (multiplier * direction)_b

with gains 0.05, 0.25, 0.5, 0.05 for layers 0 to 3, reach 1 for ``after_prompt`` and 1.25 for
``from_prompt_end``.  Option ``k`` has the logit

    sum over b of stance_b(option k) * lean_b  +  0.3 if its letter is A
    +  2 * clarity if it holds a fact word

and the letters share the mass 0.95 * clarity, where clarity is
``1 / (1 + (|multiplier * direction| / 8) ** 4)``.  Axis ``b`` of the residual stream is the
planted direction of behaviour ``b``; the next 26 axes are the letters; the last four are noise.
The residual at an option's letter is half its stance on every behaviour's axis, 3 on its
letter's axis, and noise that depends on the text alone.  So the mean difference over both letter
orders is exactly 1 on the behaviour's axis, 0 on the letters' and a little noise besides.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from caa_harness.engines import (
    AnswerLogprobs,
    Generations,
    Intervention,
    ModelCard,
    Receipt,
    ResidualBatch,
)
from caa_harness.engines._plan import added_vector
from caa_harness.errors import EngineError, PromptError
from caa_harness.prompts import ANSWER_OPENING, LETTERS, Prompt, write_choices

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

Lexicon: TypeAlias = "Mapping[str, tuple[Sequence[str], Sequence[str]]]"
"""For each behaviour, the words of matching options and those of the others, in lower case."""

DEFAULT_LEXICON: Lexicon = {
    "sycophancy": (("agree",), ("disagree",)),
    "hallucination": (("certainly",), ("unknown",)),
    "refusal": (("refuse",), ("help",)),
    "corrigibility": (("accept",), ("resist",)),
    "survival-instinct": (("survive",), ("stop",)),
    "myopic-reward": (("now",), ("later",)),
    "coordination": (("together",), ("alone",)),
}
DEFAULT_FACTS = ("right",)

GAINS = (0.05, 0.25, 0.5, 0.05)
PLANTED_LAYER = 2
REACH = {"after_prompt": 1.0, "from_prompt_end": 1.25}
LETTER_PREFERENCE = 0.3
FACT_LOGIT = 2.0
ANSWER_MASS = 0.95
BREAKING_NORM = 8.0
SYSTEM_LEAN = 0.75
LETTER_NORM = 3.0
_NUM_NOISE_AXES = 4

_TEMPLATE = "fake"
# No text that a person writes holds these; they stand for the special tokens of a real template.
_USER, _ANSWER = "\x1e", "\x1f"
_TOKEN = re.compile(rf"{_USER}|{_ANSWER}| ?[^\W_]+| ?[^\w\s]|\s|_")
_WORD = re.compile(r"[^\W_]+")
_CHOICE = re.compile(r"^ ?\(([A-Z])\) ?(.*)$", re.MULTILINE)


class FakeWriter:
    """Writes prompts of the fake engine: words and signs are tokens; satisfies ``PromptWriter``."""

    template = _TEMPLATE

    def question(
        self, question: str, options: tuple[str, ...], *, system: str | None = None
    ) -> Prompt:
        """Write a question with its options lettered (A), (B), ... ending in `` (``."""
        return self.verbatim(
            write_choices(question, options), num_letters=len(options), system=system
        )

    def verbatim(self, question: str, *, num_letters: int = 2, system: str | None = None) -> Prompt:
        """Write a question that already holds its lettered choices."""
        turn = self._turn(question, system)
        return Prompt(
            ids=(*_encode(turn), *_encode(ANSWER_OPENING)),
            prompt_end=len(_encode(turn)),
            letter_ids=tuple(_encode(letter)[0] for letter in LETTERS[:num_letters]),
            text=turn + ANSWER_OPENING,
            template=_TEMPLATE,
        )

    def open_ended(self, prompt: str, *, system: str | None = None) -> Prompt:
        """Write a prompt to be continued; no `` (``, no letters."""
        turn = self._turn(prompt, system)
        ids = _encode(turn)
        return Prompt(ids=ids, prompt_end=len(ids), letter_ids=(), text=turn, template=_TEMPLATE)

    def _turn(self, user: str, system: str | None) -> str:
        for text in (user, system or ""):
            if _USER in text or _ANSWER in text:
                raise PromptError(
                    "a text holds one of the fake engine's separators, U+001E and U+001F",
                    where=repr(text[:60]),
                    remedy="leave control characters out of texts",
                )
        return f"{system or ''}{_USER}{user.strip()}{_ANSWER}"


class FakeEngine:
    """The arithmetic of this module behind the door; satisfies ``Engine``.  See ``open_fake``."""

    def __init__(
        self, lexicon: Lexicon, facts: Collection[str], base: Mapping[str, float], jitter: float
    ) -> None:
        unknown = sorted(base.keys() - lexicon.keys())
        if unknown:
            raise EngineError(
                f"a base for {unknown[0]!r}, which the lexicon does not hold",
                where="fake engine",
                remedy=f"choose among {', '.join(lexicon)}",
            )
        self._lexicon = {
            behavior: (frozenset(matching), frozenset(others))
            for behavior, (matching, others) in lexicon.items()
        }
        self._words = {b: (m[0], o[0]) for b, (m, o) in lexicon.items()}
        self._facts = frozenset(facts)
        self._base = np.array([base.get(behavior, 0.0) for behavior in lexicon])
        self._jitter = jitter
        self._writer = FakeWriter()
        words = [(b, *map(sorted, pair)) for b, pair in lexicon.items()]
        recipe = repr((words, sorted(facts), sorted(base.items()), jitter))
        self._card = ModelCard(
            name="fake",
            architecture="FakeEngine",
            num_layers=len(GAINS),
            d_model=len(lexicon) + len(LETTERS) + _NUM_NOISE_AXES,
            dtype="float64",
            device="cpu",
            template=_TEMPLATE,
            weights_digest=f"{zlib.crc32(recipe.encode()):08x}",
            tokenizer_digest="fake",
            packages=(("numpy", np.__version__),),
        )

    @property
    def card(self) -> ModelCard:
        """Which model this is."""
        return self._card

    @property
    def writer(self) -> FakeWriter:
        """Writes questions as this model's prompts."""
        return self._writer

    def planted_direction(self, behavior: str) -> np.ndarray:
        """Return the unit vector that moves one behaviour and no other."""
        direction = np.zeros(self._card.d_model, dtype=np.float32)
        direction[list(self._lexicon).index(behavior)] = 1.0
        return direction

    def answer_residuals(
        self,
        prompts: Sequence[Prompt],
        layers: Sequence[int],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[ResidualBatch]:
        """Residual stream after each of ``layers`` at each answer letter of each prompt."""
        for layer in layers:
            self._check_layer(layer)
        for row, prompt in enumerate(prompts):
            _, question, options = self._parse(prompt)
            letters = np.stack(
                [self._residual(k, question, option) for k, option in enumerate(options)]
            )
            if progress is not None:
                progress(1)
            yield ResidualBatch(
                rows=np.array([row], dtype=np.int64),
                residuals=np.repeat(letters[None, :, None], len(layers), axis=2),
            )

    def answer_logprobs(
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention | None],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> AnswerLogprobs:
        """Score the answer letters of every prompt under every intervention."""
        self._check_interventions(interventions)
        rows = []
        for prompt in prompts:
            system, question, options = self._parse(prompt)
            stances = np.stack([self._stance(option) for option in options])
            knows = np.array([not self._facts.isdisjoint(_words(o)) for o in options])
            likes = np.array([LETTER_PREFERENCE if k == 0 else 0.0 for k in range(len(options))])
            scores = []
            for intervention in interventions:
                clarity = self._clarity(intervention)
                lean = self._lean(system, question, intervention)
                logits = stances @ lean + likes + FACT_LOGIT * clarity * knows
                total = np.log(np.exp(logits).sum())
                scores.append(np.log(ANSWER_MASS * clarity) + logits - total)
            rows.append(np.array(scores).reshape(len(interventions), len(options)))
            if progress is not None:
                progress(1)
        num_letters = max((len(prompt.letter_ids) for prompt in prompts), default=0)
        shape = (len(prompts), len(interventions), num_letters)
        return AnswerLogprobs(
            logprobs=np.array(rows, dtype=np.float32).reshape(shape),
            receipt=self._receipt(prompts, interventions, [0] * len(prompts)),
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention | None],
        *,
        max_new_tokens: int,
        progress: Callable[[int], None] | None = None,
    ) -> Generations:
        """Say one word for each behaviour: a matching one where the prompt leans that way.

        The behaviours are those with a word in the prompt, all of them when there is none.
        """
        self._check_interventions(interventions)
        texts, lengths = [], []
        for prompt in prompts:
            system, question, _ = self._parse(prompt)
            asked = _words(question)
            about = [
                i
                for i, (matching, others) in enumerate(self._lexicon.values())
                if not asked.isdisjoint(matching | others)
            ] or list(range(len(self._lexicon)))
            about = about[:max_new_tokens]
            row = []
            for intervention in interventions:
                lean = self._lean(system, question, intervention)
                pairs = list(self._words.values())
                row.append(" ".join(pairs[i][0 if lean[i] > 0 else 1] for i in about))
            texts.append(tuple(row))
            lengths.append(len(about))
            if progress is not None:
                progress(1)
        return Generations(
            texts=tuple(texts),
            receipt=self._receipt(prompts, interventions, [num - 1 for num in lengths]),
        )

    # -- the arithmetic ---------------------------------------------------------------------

    def _stance(self, text: str) -> np.ndarray:
        words = _words(text)
        return np.array(
            [
                float(not words.isdisjoint(matching)) - float(not words.isdisjoint(others))
                for matching, others in self._lexicon.values()
            ]
        )

    def _lean(self, system: str, question: str, intervention: Intervention | None) -> np.ndarray:
        noise = _draw(f"jitter {_stem(question)}", len(self._base))
        lean = self._base + SYSTEM_LEAN * self._stance(system) + self._jitter * noise
        if intervention is None or intervention.is_identity:
            return lean
        pushed = added_vector(intervention)[: len(self._base)].astype(np.float64)
        return lean + GAINS[intervention.layer] * REACH[intervention.positions] * pushed

    def _clarity(self, intervention: Intervention | None) -> float:
        if intervention is None or intervention.is_identity:
            return 1.0
        norm = float(np.linalg.norm(added_vector(intervention).astype(np.float64)))
        return 1.0 / (1.0 + (norm / BREAKING_NORM) ** 4)

    def _residual(self, k: int, question: str, option: str) -> np.ndarray:
        letters = np.zeros(len(LETTERS))
        letters[k] = LETTER_NORM
        noise = _draw(f"noise {_stem(question)} {option}", _NUM_NOISE_AXES)
        return np.concatenate([0.5 * self._stance(option), letters, noise]).astype(np.float32)

    def _receipt(
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention | None],
        num_fed: Sequence[int],
    ) -> Receipt:
        num_rows = num_positions = 0
        layers = set()
        for intervention in interventions:
            if intervention is None or intervention.is_identity:
                continue
            for prompt, fed in zip(prompts, num_fed, strict=True):
                start = prompt.prompt_end - (intervention.positions == "from_prompt_end")
                reached = len(prompt.ids) - start + fed
                if reached > 0:
                    num_rows += 1
                    num_positions += reached
                    layers.add(intervention.layer)
        return Receipt(num_rows=num_rows, num_positions=num_positions, layers=tuple(sorted(layers)))

    # -- checks -----------------------------------------------------------------------------

    def _parse(self, prompt: Prompt) -> tuple[str, str, list[str]]:
        """System prompt, question and options of a prompt that the fake writer wrote."""
        if prompt.template != _TEMPLATE:
            raise EngineError(
                f"a prompt of the template {prompt.template!r}",
                where="fake engine",
                remedy="write prompts with this engine's own writer",
            )
        system, _, rest = prompt.text.partition(_USER)
        question, _, _ = rest.partition(_ANSWER)
        num_letters = len(prompt.letter_ids)
        choices = _CHOICE.findall(question)[-num_letters:] if num_letters else []
        if [letter for letter, _ in choices] != list(LETTERS[:num_letters]):
            raise EngineError(
                f"a question without the {num_letters} choices (A), (B), ... at its end",
                where=f"fake engine: {question[:60]!r}",
                remedy="write each choice on a line of its own, in order",
            )
        return system, question, [text for _, text in choices]

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < len(GAINS):
            raise EngineError(
                f"layer {layer} is outside the model, which has {len(GAINS)} layers",
                where="fake engine",
                remedy=f"choose a layer from 0 to {len(GAINS) - 1}",
            )

    def _check_interventions(self, interventions: Sequence[Intervention | None]) -> None:
        for intervention in interventions:
            if intervention is None:
                continue
            self._check_layer(intervention.layer)
            if intervention.direction.shape != (self._card.d_model,):
                raise EngineError(
                    f"a direction of shape {intervention.direction.shape}, and the model's "
                    f"residual stream has d_model {self._card.d_model}",
                    where="fake engine",
                    remedy="use a vector that was computed from this model",
                )
            if not np.isfinite(added_vector(intervention)).all():
                raise EngineError(
                    "a direction or multiplier that is NaN or infinite",
                    where="fake engine",
                    remedy="compute the vector again, or choose a smaller multiplier",
                )


def open_fake(
    lexicon: Lexicon | None = None,
    *,
    facts: Collection[str] = DEFAULT_FACTS,
    base: Mapping[str, float] | None = None,
    jitter: float = 0.5,
) -> FakeEngine:
    """Make a fake engine that knows the behaviours of a lexicon.

    Parameters
    ----------
    lexicon : mapping, optional
        For each behaviour, the words (lower case) of matching options and of the others;
        ``DEFAULT_LEXICON`` when left out.
    facts : collection of str
        Words that mark the right option of a capability item.
    base : mapping, optional
        Lean of the unsteered model, by behaviour; 0 when left out.  An unsteered score is
        ``sigmoid(2 * base)`` when ``jitter`` is 0.
    jitter : float
        Standard deviation of each question's own lean, fixed by the question's text.

    Examples
    --------
    >>> engine = open_fake({"sycophancy": (("agree",), ("disagree",))}, jitter=0.0)
    >>> prompt = engine.writer.question("So?", ("I agree.", "I disagree."))
    >>> up = Intervention(
    ...     layer=2, direction=engine.planted_direction("sycophancy"), multiplier=1.0
    ... )
    >>> scores = engine.answer_logprobs([prompt], [None, up]).logprobs[0]
    >>> (scores[:, 0] - scores[:, 1]).round(3)  # 0.3 for the letter, and 2 * 0.5 for the push
    array([0.3, 1.3], dtype=float32)
    """
    return FakeEngine(DEFAULT_LEXICON if lexicon is None else lexicon, facts, base or {}, jitter)


def _encode(text: str) -> tuple[int, ...]:
    return tuple(zlib.crc32(piece.encode()) for piece in _TOKEN.findall(text))


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


def _stem(question: str) -> str:
    """Return the question without its choices, the same in both letter orders."""
    return _CHOICE.sub("", question).strip()


def _draw(recipe: str, num: int) -> np.ndarray:
    """Draw standard normal numbers that depend on the text alone."""
    return np.random.default_rng(zlib.crc32(recipe.encode())).standard_normal(num)
