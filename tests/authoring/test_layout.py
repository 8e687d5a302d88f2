"""The canonical layout: one way to write a file, and never another content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caa_harness.authoring.layout import format_files, format_rows, format_spec
from caa_harness.cli import main
from caa_harness.spec import SpecErrors, load_spec
from caa_harness.strict_json import parse_json

SHIPPED = Path(__file__).parents[2] / "behavior_specs"
HERE = Path("x.behavior.json")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
KEYS = st.sampled_from(["behavior", "claims", "pairs", "question", "matching", "layer"]) | TEXTS
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)


def canonical(value):
    return json.dumps(value, sort_keys=True)


@settings(max_examples=60, deadline=None)
@given(value=OBJECTS, indent=st.sampled_from([None, 1, 4]))
def test_content_never_changes_and_a_second_pass_changes_nothing(value, indent):
    laid_out = format_spec(json.dumps(value, indent=indent), HERE)

    assert canonical(parse_json(laid_out, HERE).value) == canonical(value)
    assert format_spec(laid_out, HERE) == laid_out


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(OBJECTS, max_size=4), gap=st.sampled_from(["\n", "\n\n", "\r\n"]))
def test_rows_keep_their_content_and_order(rows, gap):
    laid_out = format_rows(gap.join(map(json.dumps, rows)), HERE)

    assert [canonical(json.loads(one)) for one in laid_out.split("\n")[:-1]] == [
        canonical(row) for row in rows
    ]


def copy_shipped(folder):
    for path in (*SHIPPED.glob("refusal.*"), *SHIPPED.glob("*.probe.jsonl")):
        value = path.read_text(encoding="utf-8")
        if path.suffix == ".json":  # other layout, other order of keys
            value = json.dumps(dict(reversed(json.loads(value).items())), indent=7)
        (folder / path.name).write_text(value, encoding="utf-8")
    return folder / "refusal.behavior.json"


def test_a_spec_keeps_its_digest_and_its_claims(tmp_path):
    path = copy_shipped(tmp_path)
    before = load_spec(path)

    assert path in format_files([path])
    after = load_spec(path)

    assert (after.digest, after.claims) == (before.digest, before.claims)
    assert format_files([tmp_path]) == []


def test_fmt_check_names_the_files_and_leaves_them(tmp_path, capsys):
    path = copy_shipped(tmp_path)
    before = path.read_bytes()

    assert main(["fmt", str(path), "--check"]) == 1

    assert path.read_bytes() == before
    assert "refusal.behavior.json: not in the canonical layout" in capsys.readouterr().out
    assert main(["fmt", str(path)]) == 0
    assert main(["fmt", str(path), "--check"]) == 0


def test_nothing_is_written_when_one_file_is_broken(tmp_path):
    path = copy_shipped(tmp_path)
    (tmp_path / "broken.jsonl").write_text('{"question": 1, "question": 2}\n')
    before = path.read_bytes()

    with pytest.raises(SpecErrors, match=r"broken\.jsonl:1:"):
        format_files([tmp_path])

    assert path.read_bytes() == before


def test_keys_stand_in_the_schemas_order():
    text = '{"claims": [{"at_least": 0, "multiplier": 1, "type": "shift"}], "behavior": "b"}'

    assert format_spec(text, HERE) == (
        '{\n  "behavior": "b",\n  "claims": [\n'
        '    {"type": "shift", "multiplier": 1, "at_least": 0}\n  ]\n}\n'
    )
