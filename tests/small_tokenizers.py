"""Tokenizers built on the spot, of the kinds of well-known families, with few and known pieces."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

MARK = "\u2581"
PRINTABLE = [chr(code) for code in range(33, 127)]

LLAMA_2_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}"
    "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    "{{ '<start_of_turn>' + message['role'] + '\\n' + message['content'] | trim"
    " + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ ' [INST] ' + message['content'] + ' [/INST]' }}{% endfor %}"
)
SYSTEM_BLIND_TEMPLATE = (
    "{% for message in messages if message['role'] == 'user' %}"
    "{{ '<|im_start|>user\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _vocabulary(first, symbols, merges):
    """Number the pieces in order: specials, bytes or letters, then what the merges make."""
    pieces = [*first, *symbols, *(left + right for left, right in merges)]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _fast(tokenizer, template, **specials):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=template,
        clean_up_tokenization_spaces=False,
        **specials,
    )


def _bytes():
    return [f"<0x{byte:02X}>" for byte in range(256)]


def llama_2_kind(*, template=LLAMA_2_TEMPLATE, merges=(), bos=True, drop=()):
    """SentencePiece-like BPE: the space mark is prepended, unknown characters fall to bytes.

    ``[INST]`` is three ordinary pieces and ``[/INST]`` is four: ``mark[``, ``/``, ``INST``, ``]``.
    """
    merges = [
        ("I", "N"),
        ("S", "T"),
        ("IN", "ST"),
        (MARK, "["),
        (MARK, "("),
        *merges,
    ]
    symbols = [*_bytes(), MARK, *(char for char in PRINTABLE if char not in drop)]
    vocabulary = _vocabulary(["<unk>", "<s>", "</s>"], symbols, merges)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    specials = {"unk_token": "<unk>", "eos_token": "</s>"}
    if bos:
        specials["bos_token"] = "<s>"
        tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return _fast(tokenizer, template, **specials)


def chatml_kind(*, template=CHATML_TEMPLATE, merges=()):
    """Byte-level BPE with Qwen's way of cutting texts; ``(A`` without a space is one token."""
    merges = [("\u0120", "("), ("(", "A"), ("(", "B"), *merges]
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = _vocabulary([], symbols, merges)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    cut = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(cut, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return _fast(tokenizer, template, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def gemma_kind(*, template=GEMMA_TEMPLATE, merges=()):
    """SentencePiece-like BPE without a prepended mark; turns are special tokens."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    merges = [(MARK, "("), *merges]
    vocabulary = _vocabulary(specials, [*_bytes(), MARK, "\n", *PRINTABLE], merges)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", MARK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(s, normalized=False) for s in specials])
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return _fast(
        tokenizer,
        template,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def mistral_kind():
    """Llama 2's kind of pieces under a template that refuses a system role."""
    return llama_2_kind(template=MISTRAL_TEMPLATE)
