"""Prompts: a question's texts in, token ids and positions out.

The harness writes the letters, the template writes the turns, and positions
come from the tokens of the text that was built, never from searching it.  No
model is needed, only its tokenizer; torch is never imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from caa_harness.errors import PromptError

Template = Literal["llama-2", "chat-template", "plain", "input-response"]
"""How a question becomes a prompt.

``llama-2``: ``[INST] {question} [/INST]`` after one BOS, the system prompt inside ``[INST]``.
``chat-template``: the tokenizer's own, with the opening of the assistant's turn.
``plain``, for base models: ``Question: {question}`` and ``Answer:`` on the next line.
``input-response``: the same as ``Input:`` and ``Response:``, as the reference code writes it.
"""

TEMPLATES: tuple[str, ...] = get_args(Template)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FEWEST_OPTIONS = 2
ANSWER_OPENING = " ("
"""What every answer begins with: the model chooses the letter that follows."""

_PLAIN_LABELS = {"plain": ("Question", "Answer"), "input-response": ("Input", "Response")}
# Some chat templates print today's date; a measured number must not depend on it.
_FIXED_DATE = "26 Jul 2024"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question as one model reads it, up to and including the `` (`` before the letter."""

    ids: tuple[int, ...]
    prompt_end: int
    """Number of tokens of the user's turn: ``ids[prompt_end:]`` are the answer's."""
    letter_ids: tuple[int, ...]
    """Token of each answer letter in this context; empty for open-ended prompts."""
    text: str
    template: str


class PromptWriter(Protocol):
    """Writes questions as one model's prompts."""

    @property
    def template(self) -> str:
        """One of ``TEMPLATES``; the fake engine has one of its own."""
        ...

    def question(
        self, question: str, options: tuple[str, ...], *, system: str | None = None
    ) -> Prompt:
        """Write a question with its options lettered (A), (B), ... ending in `` (``."""
        ...

    def verbatim(self, question: str, *, num_letters: int = 2, system: str | None = None) -> Prompt:
        """Write a question that already holds its lettered choices."""
        ...

    def open_ended(self, prompt: str, *, system: str | None = None) -> Prompt:
        """Write a prompt to be continued; no `` (``, no letters."""
        ...


def write_choices(question: str, options: tuple[str, ...]) -> str:
    r"""Put a question and its lettered options into one text.

    Examples
    --------
    >>> write_choices("Is it so?", ("Yes", "No"))
    'Is it so?\n\nChoices:\n (A) Yes\n (B) No'
    """
    if not _FEWEST_OPTIONS <= len(options) <= len(LETTERS):
        raise PromptError(
            f"a question with {len(options)} options",
            where=_shorten(question),
            remedy=f"give it between {_FEWEST_OPTIONS} and {len(LETTERS)} options, one letter each",
        )
    lines = [f" ({letter}) {text}" for letter, text in zip(LETTERS, options, strict=False)]
    return "\n".join([f"{question}\n\nChoices:", *lines])


class TokenizerWriter:
    """Writes prompts for one tokenizer; satisfies ``PromptWriter``.

    Parameters
    ----------
    tokenizer
        A fast tokenizer of transformers (one that knows character offsets).
    name : str
        What messages call the tokenizer; its ``name_or_path`` when left out.
    template : str, optional
        One of ``TEMPLATES``.  Left out, ``llama-2`` is taken when the tokenizer's chat
        template writes exactly that format, ``chat-template`` for any other chat
        template, and ``plain`` when there is none.

    Raises
    ------
    PromptError
        When the template is unknown or not to be had from this tokenizer; later, when a
        text cannot be written as a prompt whose positions and letters are certain.

    Notes
    -----
    The user's turn ends where the answer begins: for ``llama-2`` after ``[/INST]``, for
    ``chat-template`` after the opening of the assistant's turn, for the two plain ones after
    ``Answer:`` or ``Response:``.  A text that holds the string of one of the tokenizer's
    special tokens (``</s>``, ``<|im_end|>``) is refused, since it would be read as that token.
    """

    def __init__(self, tokenizer: Any, *, name: str = "", template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._name = name or str(getattr(tokenizer, "name_or_path", "")) or "tokenizer"
        if not getattr(tokenizer, "is_fast", False):
            raise PromptError(
                "the tokenizer knows no character offsets (it is not a fast tokenizer)",
                where=self._name,
                remedy="use a model that ships tokenizer.json, or convert its tokenizer to one",
            )
        self._specials = tuple(sorted(_special_strings(tokenizer)))
        self._template = self._choose(template)
        self._bos = self._find_bos()
        self._opening: tuple[int, ...] | None = None
        self._letters: dict[str, int] = {}

    @property
    def template(self) -> str:
        """One of ``TEMPLATES``."""
        return self._template

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that this writes for."""
        return self._tokenizer

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
        text = turn + ANSWER_OPENING
        ids, prompt_end = self._encode(text, len(turn))
        if ids[prompt_end:] != self._opening:
            self._opening, self._letters = self._check_opening(turn), {}
            assert ids[prompt_end:] == self._opening
        return Prompt(
            ids=self._bos + ids,
            prompt_end=len(self._bos) + prompt_end,
            letter_ids=tuple(self._letter(letter, turn) for letter in LETTERS[:num_letters]),
            text=text,
            template=self._template,
        )

    def open_ended(self, prompt: str, *, system: str | None = None) -> Prompt:
        """Write a prompt to be continued; no `` (``, no letters."""
        turn = self._turn(prompt, system)
        ids, prompt_end = self._encode(turn, len(turn))
        return Prompt(
            ids=self._bos + ids,
            prompt_end=len(self._bos) + prompt_end,
            letter_ids=(),
            text=turn,
            template=self._template,
        )

    # -- the text ---------------------------------------------------------------------------

    def _choose(self, template: str | None) -> str:
        has_own = bool(getattr(self._tokenizer, "chat_template", None))
        if template is None:
            if not has_own:
                return "plain"
            return "llama-2" if self._writes_llama_2() else "chat-template"
        if template not in TEMPLATES:
            raise PromptError(
                f"unknown template {template!r}",
                where=self._name,
                remedy=f"choose one of {', '.join(TEMPLATES)}",
            )
        if template == "chat-template" and not has_own:
            raise PromptError(
                "the tokenizer has no chat template",
                where=self._name,
                remedy="choose the template 'plain' for a base model, or 'llama-2'",
            )
        return template

    def _writes_llama_2(self) -> bool:
        """Whether the chat template writes Llama 2's format, seen by letting it write."""
        bos = self._tokenizer.bos_token or ""
        try:
            with_system = self._render("U", "S")
            without = self._render("U", None)
        except PromptError:
            return False
        return (with_system, without) == (bos + _llama_2("U", "S"), bos + _llama_2("U", None))

    def _find_bos(self) -> tuple[int, ...]:
        """BOS that goes before the ids; chat templates write their own."""
        bos = self._tokenizer.bos_token_id
        if self._template == "chat-template":
            return ()
        if self._template == "llama-2":
            if bos is None:
                raise PromptError(
                    "the template 'llama-2' begins with BOS, and the tokenizer has none",
                    where=self._name,
                    remedy="choose the template 'chat-template' or 'plain'",
                )
            return (bos,)
        default = self._tokenizer("a", add_special_tokens=True)["input_ids"]
        return (bos,) if bos is not None and default[:1] == [bos] else ()

    def _turn(self, user: str, system: str | None) -> str:
        """Write everything before the answer."""
        self._check_text(user, "question")
        if system is not None:
            self._check_text(system, "system prompt")
        if self._template == "llama-2":
            return _llama_2(user, system)
        if self._template == "chat-template":
            return self._chat(user, system)
        asks, answers = _PLAIN_LABELS[self._template]
        before = "" if system is None else f"{system}\n\n"
        return f"{before}{asks}: {user.strip()}\n{answers}:"

    def _chat(self, user: str, system: str | None) -> str:
        text = self._render(user, system)
        if user.strip() not in text:
            raise PromptError(
                "the chat template does not write the question as it is",
                where=f"{self._name}: {_shorten(user)}",
                remedy="choose another template, such as 'plain'",
            )
        if system is not None and (system.strip() not in text or text == self._render(user, None)):
            raise PromptError(
                "the chat template leaves the system prompt out",
                where=self._name,
                remedy="ask without system prompts, or choose another template",
            )
        return text

    def _render(self, user: str, system: str | None) -> str:
        turns = [] if system is None else [{"role": "system", "content": system}]
        turns.append({"role": "user", "content": user.strip()})
        try:
            text = self._tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
                date_string=_FIXED_DATE,
            )
        except Exception as error:  # a template is a foreign program: anything may come out of it
            what = "a system prompt" if system is not None else "the question"
            raise PromptError(
                f"the chat template refuses {what}: {error}",
                where=self._name,
                remedy=(
                    "ask without system prompts, or choose another template"
                    if system is not None
                    else "choose another template, such as 'plain'"
                ),
            ) from error
        return str(text)

    def _check_text(self, text: str, what: str) -> None:
        for special in self._specials:
            if special in text:
                raise PromptError(
                    f"the {what} holds {special!r}, a special token of the tokenizer",
                    where=f"{self._name}: {_shorten(text)}",
                    remedy="write it otherwise, for example with spaces between its characters",
                )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the {what} holds half of a surrogate pair at character {error.start}",
                where=f"{self._name}: {_shorten(text)}",
                remedy="write the whole character",
            ) from error

    # -- the tokens -------------------------------------------------------------------------

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _encode(self, text: str, boundary: int) -> tuple[tuple[int, ...], int]:
        """Encode a text; also count the tokens that end at or before character ``boundary``."""
        encoded = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids, offsets = tuple(encoded["input_ids"]), encoded["offset_mapping"]
        num_before = sum(end <= boundary for _, end in offsets)
        if any(start < boundary for start, _ in offsets[num_before:]):
            raise self._straddling(text, ids[num_before])
        return ids, num_before

    def _check_opening(self, turn: str) -> tuple[int, ...]:
        """Tokens of `` (`` after this turn, certain to hold nothing of the turn."""
        before, opened = self._ids(turn), self._ids(turn + ANSWER_OPENING)
        if opened[: len(before)] != before or len(opened) == len(before):
            # Offsets may leave leading spaces out; comparing the ids shows what they hide.
            shared = _num_shared(before, opened)
            raise self._straddling(turn + ANSWER_OPENING, opened[min(shared, len(opened) - 1)])
        return opened[len(before) :]

    def _letter(self, letter: str, turn: str) -> int:
        """Token of an answer letter in context, checked once for each way of opening."""
        if letter not in self._letters:
            opened = self._ids(turn + ANSWER_OPENING)
            lettered = self._ids(turn + ANSWER_OPENING + letter)
            if lettered[:-1] != opened:
                shared = _num_shared(opened, lettered)
                pieces = self._tokenizer.convert_ids_to_tokens(list(lettered[shared:]))
                raise PromptError(
                    f"the answer letter {letter!r} after {ANSWER_OPENING!r} is not one token of "
                    f"its own: the tokenizer reads {pieces}",
                    where=self._name,
                    remedy="choose another template, or a model whose tokenizer has the letters",
                )
            unknown = getattr(self._tokenizer, "unk_token_id", None)
            if lettered[-1] == unknown or lettered[-1] in self._letters.values():
                piece = self._tokenizer.convert_ids_to_tokens(lettered[-1])
                raise PromptError(
                    f"the tokenizer has no letter {letter!r}: it reads {piece!r}",
                    where=self._name,
                    remedy="use a model whose tokenizer has the capital letters",
                )
            self._letters[letter] = lettered[-1]
        return self._letters[letter]

    def _straddling(self, text: str, token: int) -> PromptError:
        piece = self._tokenizer.convert_ids_to_tokens(int(token))
        return PromptError(
            f"the token {piece!r} lies across the end of the user's turn",
            where=f"{self._name}: ...{text[-40:]!r}",
            remedy="choose another template: the start of the answer has no position here",
        )


def open_writer(name_or_path: str, *, template: str | None = None) -> TokenizerWriter:
    """Open a model's tokenizer, and nothing else of the model, to write prompts with.

    Raises
    ------
    PromptError
        When there is no such tokenizer, or it cannot write prompts whose letters are certain.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415  (slow to import)

    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except Exception as error:
        raise PromptError(
            f"the tokenizer cannot be opened: {str(error).splitlines()[0]}",
            where=name_or_path,
            remedy="name a folder with a tokenizer.json, or a model's name on the hub",
        ) from error
    return TokenizerWriter(tokenizer, name=name_or_path, template=template)


def _llama_2(user: str, system: str | None) -> str:
    before = "" if system is None else f"<<SYS>>\n{system}\n<</SYS>>\n\n"
    return f"[INST] {before}{user.strip()} [/INST]"


def _special_strings(tokenizer: Any) -> set[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {str(s) for s in tokenizer.all_special_tokens} | {
        str(token.content) for token in added if token.special
    }


def _num_shared(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Length of the longest common beginning."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")  # noqa: PLR2004 - a line's worth
