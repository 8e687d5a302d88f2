"""The verbs: what they print, where they write, and how they end."""

from __future__ import annotations

import pytest
from test_pipeline import paths, write_spec  # noqa: F401  (a fixture)

from caa_harness.cli import main
from caa_harness.errors import HarnessError
from caa_harness.shipped import specs_folder
from caa_harness.spec import schema_text


def test_init_lays_out_the_shipped_specs(tmp_path, capsys):
    folder = tmp_path / "specs"

    assert main(["init", str(folder)]) == 0

    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in specs_folder().iterdir() if path.is_file()}
    assert "next: pytest" in capsys.readouterr().out
    assert main(["check", str(folder)]) in (0, 1)


def test_init_overwrites_nothing(tmp_path, capsys):
    mine = tmp_path / "sycophancy.behavior.json"
    mine.write_text("mine", encoding="utf-8")

    assert main(["init", str(tmp_path)]) == 2

    assert mine.read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert "already there" in capsys.readouterr().err


def test_check_says_every_mistake_where_it_stands(tmp_path, capsys):
    path = write_spec(tmp_path, "refusal", claims=[{"type": "shft", "multiplier": 1}])

    assert main(["check", str(path)]) == 2

    told = capsys.readouterr().err
    assert "/claims/0/type" in told
    assert "shift" in told


def test_check_of_an_empty_folder_says_so(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "behavior.json" in capsys.readouterr().err


def test_schema_is_printed_as_it_is(capsys):
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()


def test_measure_then_judge(paths, tmp_path, capsys):  # noqa: F811
    folder, recorded = str(tmp_path), str(tmp_path / "recorded")

    assert main(["measure", folder, "--model", "fake", "--record", recorded]) == 0
    status = main(["judge", folder, "--replay", recorded])

    told = capsys.readouterr().out
    assert "6 claims: " in told
    assert status == (0 if "6 pass" in told else 1)


def test_judge_without_recorded_numbers_says_what_to_do(paths, tmp_path, capsys):  # noqa: F811
    assert main(["judge", str(tmp_path), "--replay", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_every_verb_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    verbs = capsys.readouterr().out
    for verb in ("init", "check", "schema", "measure", "judge", "import-caa"):
        assert verb in verbs
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert f"example: caa-harness {verb}" in capsys.readouterr().out


def test_errors_cross_process_boundaries_whole():
    import pickle

    error = HarnessError("found", where="here", remedy="try this")

    again = pickle.loads(pickle.dumps(error))

    assert str(again) == str(error) == "here: found\n  try: try this"
