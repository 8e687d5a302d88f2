"""The bar: on a real terminal only, and gone before pytest goes on."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]
pty = pytest.importorskip("pty")

HIDE_CURSOR, SHOW_CURSOR, ERASE_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


def on_a_terminal(pytester, *arguments, terminal_for=("stdout", "stderr"), term="xterm"):
    """Run pytest with some of its streams on a pseudo-terminal; returns what that showed."""
    leader, follower = pty.openpty()
    streams = dict.fromkeys(terminal_for, follower)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "--caa-model", "fake", *arguments],
        cwd=pytester.path,
        env={**os.environ, "TERM": term, "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=streams.get("stdout", subprocess.PIPE),
        stderr=streams.get("stderr", subprocess.PIPE),
    ) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        piped = (process.stdout.read() if process.stdout else b"").decode()
    os.close(leader)
    return process.returncode, shown.decode(), piped


def test_the_terminal_sees_the_bar_and_the_log_file_does_not(pytester, write_spec):
    write_spec()

    status, shown, log = on_a_terminal(pytester, "specs", terminal_for=("stderr",))

    assert status == 0
    assert "pairs of candor" in shown
    assert "32/32" in shown
    assert shown.index(HIDE_CURSOR) < shown.index("pairs of candor") < shown.rindex(SHOW_CURSOR)
    assert "\x1b" not in log
    assert "pairs" not in log
    assert "specs/candor.behavior.json ..." in log


@pytest.mark.slow
def test_the_bar_is_gone_before_the_next_line(pytester, write_spec):
    write_spec()

    status, shown, _ = on_a_terminal(pytester, "specs")

    assert status == 0
    assert ERASE_LINE in shown
    assert "pairs of candor" in shown
    rest = shown[shown.rindex(SHOW_CURSOR) :]
    assert "pairs of candor" not in rest
    assert "claims: 3 pass" in rest.replace("\x1b[32m", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "term"), [(["-q"], "xterm"), ([], "dumb"), (["-n1"], "xterm")]
)
def test_who_wants_no_bar_gets_none(pytester, write_spec, arguments, term):
    write_spec()

    status, shown, _ = on_a_terminal(pytester, "specs", *arguments, term=term)

    assert status == 0
    assert "pairs of candor" not in shown
    assert HIDE_CURSOR not in shown


@pytest.mark.parametrize("stream", [None, "closed", "detached"])
def test_standard_error_may_be_missing(pytester, monkeypatch, stream):
    from pytest_caa.progress import open_bar

    broken = io.TextIOWrapper(io.BytesIO())
    if stream == "closed":
        broken.close()
    elif stream == "detached":
        broken.detach()
    monkeypatch.setattr(sys, "stderr", None if stream is None else broken)

    bar = open_bar(pytester.parseconfig())
    bar("pairs", 1, 2)

    assert not bar.is_shown
