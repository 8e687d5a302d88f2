"""The Markdown report: a table, what is not supported, and never too much of it."""

from __future__ import annotations

import doctest
import re

import pytest
from report_documents import HOSTILE, behavior, claim, part, session

from caa_harness.report import markdown
from caa_harness.report.markdown import MAX_BYTES, markdown_report, write_markdown

FAILING = claim(
    "shift_up",
    "fail",
    parts=[part("shift at +1", 0.01, 0.05, 0.1)],
    reason="shift at +1 is too small",
)
UNDECIDED = claim(
    "shift_down", "inconclusive", parts=[part("shift at -1", 0.05, 0.2, 0.1, n_needed=1240)]
)


def rows(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_table_has_each_behavior_with_n_and_interval():
    text = markdown_report(session(behavior("candor"), behavior("flattery")))

    head, rule, *found = rows(text)
    assert text.startswith("## Passed: ")
    assert len(found) == 2
    for row in (head, rule, *found):
        assert len(re.findall(r"(?<!\\)\|", row)) == 7
    assert "+0.200<br>[+0.150, +0.250]<br>n = 60" in found[0]
    assert "&#10003; **pass**" in found[0]


def test_claims_that_are_not_supported_say_what_was_measured():
    text = markdown_report(session(behavior(claims=[claim("fine"), FAILING, UNDECIDED])))

    assert text.startswith("## Not passed")
    assert "### &#10007; fail: candor" in text
    assert "shift at +1 is too small" in text
    assert "| shift at +1 | +0.030 [+0.010, +0.050] | 60 | 99.92 % | more than 0.1 |  |" in text
    assert "about 1,240 |" in text
    assert "fine" not in text


def test_an_incomplete_report_says_so_and_why():
    text = markdown_report(session(behavior(), left_out=["specs/candor.behavior.json::shift_up"]))

    assert text.startswith("## Incomplete")
    assert "This report is incomplete" in text
    assert "was not judged" in text
    assert "**not judged**" in text


def test_errors_are_in_it():
    case = "specs/candor.behavior.json::shift_up"
    unread = [{"file": "specs/bad.behavior.json", "error": "no such key"}]

    text = markdown_report(session(behavior(), errors={case: "the model is gone"}, unread=unread))

    assert "the model is gone" in text
    assert "no such key" in text


def test_nothing_measured_is_still_a_report():
    text = markdown_report(session())

    assert "No behavior was measured." in text
    assert text.startswith("## Incomplete")


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "a | b",
        "[link](https://example.org)",
        "see https://example.org and www.example.org",
        "@everyone #1",
        "`code` *bold* _more_ ~gone~",
        "one\n\n# two",
        "- item",
        "1. item",
        "$x$ &amp; \\| end",
    ],
)
def test_texts_say_nothing_but_themselves(text):
    shown = markdown.escaped(text)

    assert "\n" not in shown
    assert not re.search(r"[<>|`*_\[\]@$~\\]|#(?!\d+;)|&(?!#\d+;)|https?:|www\.", shown)
    assert not re.match(r"[-+=]|\d+[.)]", shown)
    import html

    assert html.unescape(shown) == " ".join(text.split())


def test_hostile_texts_do_not_break_the_table():
    one = behavior(HOSTILE + " | x", claims=[{**FAILING, "reason": HOSTILE}])

    text = markdown_report(session(one))

    assert "<script" not in text
    assert "<img" not in text
    assert all(row.count("|") == 7 for row in rows(text))


@pytest.mark.parametrize("most", [200, 3_000, 20_000])
def test_it_never_grows_beyond_its_room(most):
    claims = [{**FAILING, "id": f"claim{i}", "reason": "long " * 200} for i in range(300)]

    text = markdown_report(session(behavior(claims=claims)), max_bytes=most)

    assert 0 < len(text.encode()) <= most
    assert re.search(r"\d+ more: see the other reports", text)


def test_where_there_is_no_room_nothing_is_said():
    assert markdown_report(session(behavior()), max_bytes=10) == ""


def test_the_whole_report_fits_what_github_takes():
    claims = [{**FAILING, "id": f"claim{i}", "reason": "long " * 500} for i in range(900)]

    text = markdown_report(session(behavior(claims=claims)))

    assert MAX_BYTES // 2 < len(text.encode()) <= MAX_BYTES


def test_it_is_written_whole(tmp_path):
    write_markdown(session(behavior()), tmp_path / "new" / "page.md")

    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.md"]


def test_the_examples_run():
    found = doctest.testmod(markdown)

    assert found.attempted > 0
    assert found.failed == 0
