from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caa_harness.strict_json import (
    MAX_DEPTH,
    MAX_PROBLEMS,
    UNUSABLE,
    Document,
    format_where,
    parse_json,
    parse_jsonl,
    pointer,
    read_json,
    read_jsonl,
    shown_path,
)

PATH = Path("x.json")

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


def parts(value, tokens=()):
    """Every part of a value with its path."""
    yield tokens, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from parts(inner, (*tokens, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from parts(inner, (*tokens, index))


def offset_of(text, line, column):
    return sum(len(one) + 1 for one in text.split("\n")[: line - 1]) + column - 1


@settings(max_examples=50)
@given(value=json_values, indent=st.sampled_from([None, 0, 1, "\t"]), ascii_only=st.booleans())
def test_good_json_reads_as_the_standard_library_reads_it(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    document = parse_json(text, PATH)

    assert document.problems == []
    assert document.value == json.loads(text)
    assert repr(document.value) == repr(json.loads(text))


@settings(max_examples=50)
@given(value=json_values, indent=st.sampled_from([None, 0, 1]))
def test_every_value_is_found_at_its_position(value, indent):
    text = json.dumps(value, indent=indent)
    document = parse_json(text, PATH)
    decoder = json.JSONDecoder()

    for tokens, part in parts(document.value):
        found, _ = decoder.raw_decode(text, offset_of(text, *document.position(tokens)))

        assert repr(found) == repr(part)


@settings(max_examples=50)
@given(value=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0)))
def test_every_key_is_found_at_its_position(value):
    text = json.dumps(value, indent=1)
    document = parse_json(text, PATH)

    for key in value:
        place = offset_of(text, *document.position([key], at_key=True))

        assert text.startswith(json.dumps(key), place)


@settings(max_examples=150)
@given(text=st.text(st.sampled_from('{}[]",:0123456789.eE+-truefalsnN \n\\u/#\ud800\ufeff')))
def test_any_text_gives_a_value_or_a_problem_with_a_place(text):
    document = parse_json(text, PATH)

    assert document.problems or document.value == json.loads(text)
    for problem in document.problems:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert 1 <= problem.column <= len(text.split("\n")[problem.line - 1]) + 1
        assert problem.found
        assert problem.remedy


@settings(max_examples=50)
@given(data=st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_problem(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)

    for document in (read_json(path), *read_jsonl(path)):
        assert document.problems or document.value is not UNUSABLE


def test_a_position_counts_lines_and_characters_from_one():
    document = parse_json('{\n  "caf\u00e9": "\u00fc", "b": [10,\n    20]\n}', PATH)

    assert document.position([]) == (1, 1)
    assert document.position(["caf\u00e9"]) == (2, 11)
    assert document.position(["b"], at_key=True) == (2, 16)
    assert document.position(["b", 1]) == (3, 5)


def test_the_position_of_an_absent_part_is_that_of_what_is_around_it():
    document = parse_json('{"a": {"b": [1]}}', PATH)

    assert document.position(["a", "missing"]) == document.position(["a"])
    assert document.position(["a", "b", 7]) == document.position(["a", "b"])


def test_a_pointer_escapes_slashes_and_tildes():
    assert pointer(["a/b", "c~d", 0]) == "/a~1b/c~0d/0"
    assert pointer([]) == ""


@pytest.mark.parametrize(
    ("text", "line", "column", "where", "found", "remedy"),
    [
        ("", 1, 1, "", "the file is empty", "write one JSON object"),
        (" \n ", 2, 2, "", "the file is empty", "write one JSON object"),
        ('{"a": 1,\n "a": 2}', 2, 2, "/a", '"a" stands twice in this object (first on line 1)',
         "keep one of the two"),
        ("[NaN]", 1, 2, "/0", "NaN is not a number that JSON has", "write a finite number"),
        ("[-Infinity]", 1, 2, "/0", "-Infinity is not a number", "write a finite number"),
        ("[Infinity]", 1, 2, "/0", "Infinity is not a number", "write a finite number"),
        ("[1e999]", 1, 2, "/0", "1e999 is too large for a number", "write a finite number"),
        ("[1e-999]", 1, 2, "/0", "1e-999 is so small that it would be read as 0", "write 0"),
        ("9" * 30, 1, 1, "", "is too large for a whole number", "stay between"),
        ("9223372036854775808", 1, 1, "", "is too large for a whole number", "stay between"),
        ("9" * 9000, 1, 1, "", "is too large for a whole number", "stay between"),
        ("[01]", 1, 2, "/0", "01 is not a number as JSON writes it", "without a plus or leading"),
        ("[+1]", 1, 2, "/0", "+1 is not a number as JSON writes it", "without a plus or leading"),
        ("[.5]", 1, 2, "/0", ".5 is not a number as JSON writes it", "both sides of a point"),
        ("[1.]", 1, 2, "/0", "1. is not a number as JSON writes it", "both sides of a point"),
        ("[0x10]", 1, 2, "/0", "0x10 is not a number as JSON writes it", "write digits"),
        ("\ufeff[]", 1, 1, "", "starts with a byte order mark", 'not as "UTF-8 with BOM"'),
        (r'["\ud800"]', 1, 2, "/0", r"a lone surrogate, \ud800", "write both halves"),
        ('["\udfff"]', 1, 2, "/0", r"a lone surrogate, \udfff", "write both halves"),
        (r'["a\x"]', 1, 4, "/0", "is not an escape that JSON knows", r"write a backslash as \\"),
        ('["a\tb"]', 1, 4, "/0", "raw control character", "such as \\t for a tab"),
        ('["a\nb"]', 1, 2, "/0", "is not closed on its line", "line breaks inside it as \\n"),
        ('{"a": "b}', 1, 7, "/a", "is not closed on its line", 'close it with "'),
        ("{} x", 1, 4, "", "has ended, but 'x' follows", "delete what follows"),
        ("{}}", 1, 3, "", "has ended, but '}' follows", "a bracket that closes too early"),
        ("[1, 2,]", 1, 6, "", "a comma stands before the closing ]", "delete the comma"),
        ('{"a": 1,}', 1, 8, "", "a comma stands before the closing }", "delete the comma"),
        ("[,1]", 1, 2, "", "a comma stands before the first entry", "delete the comma"),
        ('{"a": 1 "b": 2}', 1, 8, "", "a comma is missing before", "add the comma here"),
        ("[1 2]", 1, 3, "", "a comma is missing before '2'", "add the comma here"),
        ("[1: 2]", 1, 3, "", "':' stands where a comma or ] must stand", "separate entries"),
        ('{"a" 1}', 1, 6, "/a", 'follows the key "a", where a colon must stand', '"name": value'),
        ("{a: 1}", 1, 2, "", "the key a has no quotes", 'write "a"'),
        ("{1: 1}", 1, 2, "", "stands where a key must stand", "in double quotes"),
        ("{'a': 1}", 1, 2, "", "stands where a key must stand", "in double quotes"),
        ("['a']", 1, 2, "/0", "JSON strings stand in double quotes", "write"),
        ("[True]", 1, 2, "/0", "True is not JSON", "write true"),
        ("[None]", 1, 2, "/0", "None is not JSON", "write null"),
        ("[yes]", 1, 2, "/0", "'yes' is not the start of a JSON value", "put text in quotes"),
        ("[1, // one\n 2]", 1, 5, "", "JSON has no comments", "delete the comment"),
        ("[1, # one\n 2]", 1, 5, "", "JSON has no comments", "delete the comment"),
        ("[1, /* one */ 2]", 1, 5, "", "JSON has no comments", "delete the comment"),
        ("[1", 1, 3, "", "the text ends before the closing ]", "never closes"),
        ('{"a":', 1, 6, "/a", "the text ends in the middle", "never closes"),
    ],
)  # fmt: skip
def test_what_is_not_json_is_named_at_its_place(  # noqa: PLR0917
    text, line, column, where, found, remedy
):
    problem = parse_json(text, PATH).problems[0]

    assert (problem.line, problem.column, problem.pointer) == (line, column, where)
    assert found in problem.found
    assert remedy in problem.remedy


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_deep_nesting_is_a_problem_and_no_recursion_error(opening):
    problem = parse_json(opening * 100_000, PATH).problems[0]

    assert f"nested more than {MAX_DEPTH} deep" in problem.found


def test_the_deepest_allowed_nesting_is_read():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH

    assert parse_json(text, PATH).problems == []


def test_problems_after_which_reading_can_go_on_come_together():
    text = '{"a": NaN, "a": 1e999, b: [1,], "c": "\\ud800", "d": 007 "e": True}'

    found = [problem.found for problem in parse_json(text, PATH).problems]

    words = ["NaN", "stands twice", "1e999", "b has no quotes", "before the closing ]",
             "surrogate", "007", "comma is missing", "True is not JSON"]  # fmt: skip
    assert len(found) == len(words)
    assert all(word in one for word, one in zip(words, found, strict=True))


def test_a_text_full_of_problems_is_given_up_in_the_end():
    document = parse_json("[" + "NaN," * 100_000 + "1]", PATH)

    assert len(document.problems) == MAX_PROBLEMS
    assert document.value is UNUSABLE


def test_of_two_equal_keys_the_first_one_counts():
    assert parse_json('{"a": 1, "a": 2}', PATH).value == {"a": 1}


def test_a_complaint_leaves_no_half_read_value_behind():
    assert parse_json("[1, NaN]", PATH).value == [1, UNUSABLE]
    assert parse_json("[1, nonsense]", PATH).value is UNUSABLE


def test_jsonl_rows_know_their_lines():
    first, second = parse_jsonl('{"a": 1}\r\n\n  \n{"b":\u2028 2}\n'.replace("\u2028", ""), PATH)

    assert (first.value, first.position(["a"])) == ({"a": 1}, (1, 7))
    assert (second.value, second.position(["b"])) == ({"b": 2}, (4, 7))


def test_jsonl_problems_of_all_lines_are_found():
    documents = parse_jsonl('{"a": NaN}\n{"a": 1}\n{"a": 1} 2\n{', PATH)

    assert [[one.line for one in document.problems] for document in documents] == [
        [1],
        [],
        [3],
        [4],
    ]


def test_a_line_separator_inside_a_string_does_not_end_a_row():
    (document,) = parse_jsonl('{"a": "x\u2028y"}', PATH)

    assert document.value == {"a": "x\u2028y"}


@pytest.mark.parametrize(
    ("data", "place", "found"),
    [
        (b'{"a": "\xff"}', (1, 8), "byte 0xff is not UTF-8 text"),
        (b'{\n"\xc3\xa9": "\xe9"}', (2, 7), "byte 0xe9 is not UTF-8 text"),
        ('{"a": 1}'.encode("utf-16"), (1, 1), "the file is UTF-16 text, not UTF-8"),
        ('{"a": 1}'.encode("utf-32"), (1, 1), "the file is UTF-32 text, not UTF-8"),
    ],
)
def test_other_encodings_are_named(data, place, found, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(data)

    for document in (read_json(path), read_jsonl(path)[0]):
        (problem,) = document.problems

        assert (problem.line, problem.column) == place
        assert problem.found == found
        assert problem.remedy == "save the file as UTF-8"


def test_messages_show_paths_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert shown_path(tmp_path / "specs" / "x.json") == "specs/x.json"
    assert shown_path(tmp_path.parent / "x.json") == str(tmp_path.parent / "x.json")
    assert format_where(tmp_path / "x.json", 3, 4, "/a") == "x.json:3:4: /a"
    assert format_where(tmp_path / "x.json", 1, 1, "") == "x.json:1:1: /"


def test_a_problem_prints_place_found_and_remedy():
    (problem,) = parse_json("[NaN]", PATH).problems

    assert str(problem) == (
        "x.json:1:2: /0: NaN is not a number that JSON has\n  try: write a finite number, or null"
    )


def test_a_megabyte_is_read_in_less_than_a_second():
    row = {"question": "words " * 15, "matching": "yes \u00e9", "not_matching": "no", "n": [1, 2.5]}
    text = json.dumps([row] * 7000, indent=1)
    assert len(text) > 1_000_000

    start = time.process_time()
    document = parse_json(text, PATH)
    elapsed = time.process_time() - start

    assert isinstance(document, Document)
    assert document.problems == []
    assert elapsed < 1.0


def test_numbers_keep_their_kind():
    assert [type(one) for one in parse_json("[1, 1.0, 1e2, -0.0, -7]", PATH).value] == [
        int,
        float,
        float,
        float,
        int,
    ]
    assert math.copysign(1, parse_json("-0.0", PATH).value) == -1
