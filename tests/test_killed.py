"""A run that is killed leaves whole files or none."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from test_pipeline import WORDS, write_spec

from caa_harness.measurements import read_measurements


def start(folder, *arguments):
    code = "import sys; from caa_harness.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=folder)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.9, 0.95, 1.0])
def test_a_killed_run_leaves_nothing_half_written(tmp_path, share):
    for behavior in WORDS:
        write_spec(tmp_path, behavior)
    verb = ("measure", ".", "--model", "fake", "--record", "recorded")
    began = time.monotonic()
    assert start(tmp_path, *verb).wait() == 0
    whole = time.monotonic() - began
    for path in (tmp_path / "recorded").iterdir():
        path.unlink()

    process = start(tmp_path, *verb)
    time.sleep(share * whole)
    process.kill()
    process.wait()

    for path in (tmp_path / "recorded").glob("*.measurements.json"):
        assert read_measurements(path).behavior in WORDS
    assert start(tmp_path, *verb).wait() == 0
    assert len(list((tmp_path / "recorded").glob("*.measurements.json"))) == len(WORDS)


def test_a_killed_session_leaves_the_old_report(tmp_path):
    write_spec(tmp_path, "refusal")
    report = tmp_path / "report.json"
    report.write_text('{"format": "old"}', encoding="utf-8")
    command = [sys.executable, "-m", "pytest", ".", "--caa-model", "fake"]
    process = subprocess.Popen(
        [*command, "--caa-json", str(report)], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    time.sleep(0.7)
    process.kill()
    process.wait()

    assert json.loads(report.read_text(encoding="utf-8"))["format"] in ("old", "caa-report/1")
