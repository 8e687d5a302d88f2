"""The starter: a spec that loads, in the canonical layout, and overwrites nothing."""

from __future__ import annotations

import pytest

from caa_harness.authoring.layout import format_files
from caa_harness.authoring.starter import write_starter
from caa_harness.cli import main
from caa_harness.engines.fake import open_fake
from caa_harness.errors import OptionError
from caa_harness.evaluation import measure
from caa_harness.spec import load_spec, schema_text, spec_warnings
from caa_harness.verdict import judge


def test_the_starter_loads_without_a_warning_and_is_laid_out(tmp_path):
    paths = write_starter("patience", tmp_path / "new")

    spec = load_spec(paths[-1])

    assert (spec.behavior, len(spec.pairs), len(spec.held_out)) == ("patience", 12, 14)
    assert "replaced" in spec.description
    assert spec_warnings(spec) == ()
    assert format_files([tmp_path / "new"]) == []
    assert paths[0].read_text(encoding="utf-8") == schema_text()


def test_the_starter_is_a_real_example_that_a_model_can_be_steered_by(tmp_path):
    spec = load_spec(write_starter("patience", tmp_path)[-1])

    verdicts = judge(spec, measure(spec, open_fake(), siblings={}))

    assert [verdict.outcome for verdict in verdicts] == ["pass"] * 3


@pytest.mark.parametrize("taken", ["behavior.json", "pairs.jsonl", "held_out.jsonl"])
def test_nothing_is_overwritten(tmp_path, taken):
    mine = tmp_path / f"patience.{taken}"
    mine.write_text("mine")

    with pytest.raises(OptionError, match="already there"):
        write_starter("patience", tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert mine.read_text() == "mine"


def test_an_older_schema_is_left_as_it_is(tmp_path):
    schema = tmp_path / "behavior_spec.schema.json"
    schema.write_text("{}")

    assert schema not in write_starter("patience", tmp_path)
    assert schema.read_text() == "{}"


@pytest.mark.parametrize("name", ["../up", "a b", "", "-x", "x" * 70])
def test_a_name_that_no_file_should_have_is_refused(tmp_path, name):
    with pytest.raises(OptionError, match="cannot name a behavior"):
        write_starter(name, tmp_path)


def test_new_says_what_it_wrote_and_what_comes_next(tmp_path, capsys):
    assert main(["new", "patience", "--folder", str(tmp_path)]) == 0

    told = capsys.readouterr().out
    assert told.count("wrote ") == 4
    assert f"caa-harness check {tmp_path / 'patience.behavior.json'}" in told
    assert main(["check", str(tmp_path)]) == 0
