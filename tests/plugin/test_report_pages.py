"""``--caa-html``, ``--caa-markdown`` and the step summary: pages of the same report."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

REPLAY = ("specs", "--caa-replay", "recorded")
PAGES = ("--caa-html", "out/page.html", "--caa-markdown", "out/page.md")


def test_the_pages_are_written_and_named(pytester, recorded_spec):
    recorded_spec()

    result = pytester.runpytest_inprocess(*REPLAY, *PAGES)

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["report: out/page.html (complete)", "report: out/page.md (complete)"]
    )
    assert ">Passed</strong>" in (pytester.path / "out/page.html").read_text(encoding="ascii")
    assert (pytester.path / "out/page.md").read_text(encoding="utf-8").startswith("## Passed")


def test_the_pages_are_written_when_claims_fail_or_are_left_out(pytester, recorded_spec):
    recorded_spec(slope=0.1)

    result = pytester.runpytest_inprocess(*REPLAY, *PAGES, "-k", "shift")

    assert result.ret == 1
    page = (pytester.path / "out/page.html").read_text(encoding="ascii")
    assert ">Not passed</strong>" in page
    assert "This report is incomplete" in page


@pytest.mark.parametrize("option", ["html", "markdown"])
def test_a_folder_is_no_path_for_a_page(pytester, recorded_spec, option):
    recorded_spec()

    result = pytester.runpytest_inprocess(*REPLAY, f"--caa-{option}", "specs")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--caa-{option}: *specs' cannot be used", "*a file's path"])


def test_two_reports_do_not_share_a_file(pytester, recorded_spec):
    recorded_spec()

    result = pytester.runpytest_inprocess(*REPLAY, "--caa-json", "one", "--caa-html", "one")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*a path of its own, not that of --caa-html")


def test_a_page_that_cannot_be_written_is_no_success(pytester, recorded_spec):
    recorded_spec()
    (pytester.path / "taken").write_text("", encoding="utf-8")

    result = pytester.runpytest_inprocess(*REPLAY, "--caa-html", "taken/deep/page.html")

    assert result.ret == 1
    result.stdout.fnmatch_lines("caa-harness: --caa-html: *page.html cannot be written: *")


def test_the_step_summary_is_added_to_what_is_there(pytester, recorded_spec, monkeypatch):
    recorded_spec()
    page = pytester.path / "summary.md"
    page.write_text("before\n", encoding="utf-8")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))

    pytester.runpytest_inprocess(*REPLAY)

    assert page.read_text(encoding="utf-8").startswith("before\n\n## Passed")


def test_the_step_summary_never_grows_beyond_what_github_takes(
    pytester, recorded_spec, monkeypatch
):
    from caa_harness.report.markdown import MAX_BYTES

    recorded_spec()
    page = pytester.path / "summary.md"
    page.write_text("x" * (MAX_BYTES - 20), encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))

    result = pytester.runpytest_inprocess(*REPLAY)

    assert result.ret == 0
    assert page.stat().st_size == MAX_BYTES - 20


@pytest.mark.slow
def test_the_step_summary_is_written_once_over_all_workers(pytester, recorded_spec, monkeypatch):
    pytest.importorskip("xdist")
    recorded_spec()
    page = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))

    result = pytester.runpytest_subprocess(*REPLAY, "-n", "2")

    assert result.ret == 0
    assert page.read_text(encoding="utf-8").count("## Passed") == 1
