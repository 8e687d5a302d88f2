"""A tokenizer of Llama 2's kind, trained on the corpus, and Llama 2's chat template.

SentencePiece-style BPE: spaces become the mark U+2581, one is put in front of the
text, unknown characters fall back to bytes, and ``[INST]`` is several ordinary
pieces.  Pieces never cross a word boundary and never mix letters, digits and
punctuation, so that `` (A`` is always the mark with ``(``, then ``A``.
"""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Final

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable

SPACE: Final = "\u2581"
SPECIALS: Final = ("<unk>", "<s>", "</s>")
BOS_ID: Final = 1
EOS_ID: Final = 2

# What one piece may span: a word, a doubled bracket, one other character, one digit.
_SPAN: Final = f"{SPACE}?[A-Za-z]+|{SPACE}?<<|>>|[0-9]|{SPACE}?[^\\sA-Za-z0-9{SPACE}]|{SPACE}|\\s"

CHAT_TEMPLATE: Final = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/...') }}"
    "{% endif %}"
    "{% if turn['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '')"
    " + turn['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + turn['content'].strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn the pieces from ``texts``, which hold no special tokens."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = _normalizer()
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(_SPAN), behavior="isolated")
    alphabet = [*string.ascii_letters, *string.digits, *string.punctuation, SPACE]
    num_fixed = len(SPECIALS) + 256
    # The alphabet is closed, so line ends are left to the byte pieces, as in Llama 2.
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - num_fixed,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        ),
    )
    return _as_llama(learner)


def _as_llama(learner: Tokenizer) -> PreTrainedTokenizerFast:
    """Put the learnt pieces in Llama 2's order: specials, bytes, pieces."""
    learnt: dict[str, int] = learner.get_vocab()
    # The model's own state is the only public place that shows the merges.
    merges = [(first, second) for first, second in _state_of(learner)["merges"]]
    names = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    names += sorted(learnt, key=lambda piece: learnt[piece])
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=merges,
            unk_token="<unk>",  # noqa: S106
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = _normalizer()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in SPECIALS]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", BOS_ID)]
    )
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _state_of(tokenizer: Tokenizer) -> dict[str, list[list[str]]]:
    return json.loads(tokenizer.to_str())["model"]


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
