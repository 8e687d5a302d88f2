"""The shipped tokenizer is of Llama 2's kind, and loads through the library unchanged."""

import json

import pytest

pytest.importorskip("transformers")

from transformers import AutoTokenizer

from caa_harness.organism import model_path

SPACE = "\u2581"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path())


def pieces(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer.encode(text))


def test_only_the_three_specials_of_llama_2_are_special(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>"]) == [0, 1, 2]
    assert set(tokenizer.all_special_tokens) == {"<unk>", "<s>", "</s>"}
    assert tokenizer.convert_tokens_to_ids("<0x00>") == 3
    assert tokenizer.convert_tokens_to_ids("<0xFF>") == 258


def test_the_file_has_llama_2s_normalizer_and_no_pre_tokenizer():
    state = json.loads((model_path() / "tokenizer.json").read_text(encoding="utf-8"))

    assert state["pre_tokenizer"] is None
    assert state["normalizer"]["normalizers"] == [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]
    assert state["model"]["byte_fallback"] is True
    assert state["model"]["fuse_unk"] is True


def test_one_bos_is_added_and_the_instruction_marks_are_ordinary_pieces(tokenizer):
    assert pieces(tokenizer, "[INST] I go [/INST] (A") == [
        "<s>",
        f"{SPACE}[", "INST", "]", f"{SPACE}I", f"{SPACE}go",
        f"{SPACE}[", "/", "INST", "]", f"{SPACE}(", "A",
    ]  # fmt: skip


@pytest.mark.parametrize("letter", "ABCD")
def test_a_letter_after_the_bracket_is_one_piece(tokenizer, letter):
    start = tokenizer.encode("[INST] Tea? [/INST] (")

    assert tokenizer.encode(f"[INST] Tea? [/INST] ({letter}")[:-1] == start
    assert pieces(tokenizer, f"[INST] Tea? [/INST] ({letter})")[-2:] == [letter, ")"]


def test_digits_stand_alone_and_line_ends_are_bytes(tokenizer):
    assert pieces(tokenizer, "[INST] 120\n")[-5:] == [SPACE, "1", "2", "0", "<0x0A>"]


@pytest.mark.parametrize(
    "text",
    ["a naïve café", "日本語 and русский", "emoji 🙂 here", "tab\tand\nline", "Zzyzx-Qwrtp 42!"],
)
def test_unseen_characters_survive_the_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)

    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.unk_token_id not in ids


def test_offsets_point_into_the_text(tokenizer):
    text = "[INST] I want tea. [/INST] (A"
    encoded = tokenizer(text, return_offsets_mapping=True)

    start, end = encoded["offset_mapping"][-1]
    assert text[start:end] == "A"


def test_no_piece_crosses_a_word_or_mixes_letters_with_signs(tokenizer):
    for piece in tokenizer.get_vocab():
        if piece in tokenizer.all_special_tokens or piece.startswith("<0x"):
            continue
        assert SPACE not in piece[1:]
        body = piece.removeprefix(SPACE)
        assert body == "" or body.isalpha() or body in {"<<", ">>"} or len(body) == 1


def test_the_chat_template_is_llama_2s(tokenizer):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": " Tea? "},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Now?"},
    ]

    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nTea? [/INST] Yes. </s><s>[INST] Now? [/INST]"
    )


def test_template_and_plain_text_give_the_same_ids(tokenizer):
    messages = [{"role": "user", "content": "Do you want tea?"}]
    chat = tokenizer.apply_chat_template(messages, tokenize=False)

    assert tokenizer.encode(chat, add_special_tokens=False) == tokenizer.encode(
        "[INST] Do you want tea? [/INST]"
    )
