"""The README's walk, followed to the letter, and every verb's help."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from caa_harness.cli import _parser, main

README = Path(__file__).parents[2] / "README.md"
VERBS = {
    name: verb
    for action in _parser()._actions
    if isinstance(action, argparse._SubParsersAction)
    for name, verb in action.choices.items()
}


def walk():
    """The commands of the section's first console block."""
    _, _, section = README.read_text(encoding="utf-8").partition("## Your own spec in ten minutes")
    block = re.search(r"```console\n(.*?)```", section, re.DOTALL)
    lines = block.group(1).splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]


def test_the_readme_leads_from_an_empty_folder_to_a_gated_behavior(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    *verbs, (last, *arguments) = walk()

    for program, *rest in verbs:
        assert program == "caa-harness"
        assert main(rest) == 0
    told = capsys.readouterr().out
    gate = subprocess.run(
        [sys.executable, "-m", last, *arguments, "--caa-model", "fake", "-q"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        check=False,
    )

    assert [rest[0] for _, *rest in verbs] == ["new", "check", "explain", "fmt"]
    assert '"now" stands in the matching answer alone' in told
    assert "patience.behavior.json::shift_up" in told
    assert (last, gate.returncode) == ("pytest", 0), gate.stdout + gate.stderr
    assert "3 passed" in gate.stdout


def test_the_same_gate_is_red_where_the_behavior_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (_, *new), *_, (last, *arguments) = walk()
    assert main(new) == 0
    for rows in (tmp_path / arguments[0]).glob("*.held_out.jsonl"):
        text = rows.read_text().replace("now", "soon").replace("later", "in time")
        rows.write_text(text)

    gate = subprocess.run(
        [sys.executable, "-m", last, *arguments, "--caa-model", "fake", "-q"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        check=False,
    )

    assert gate.returncode == 1, gate.stdout + gate.stderr


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_help_with_an_example_that_parses(name):
    epilog = VERBS[name].epilog or ""
    assert epilog.startswith(f"example: caa-harness {name}")

    words = shlex.split(epilog.removeprefix("example: caa-harness "))
    before_redirect = words[: words.index(">")] if ">" in words else words

    assert _parser().parse_args(before_redirect).run is not None
    assert all(action.help for action in VERBS[name]._actions)
