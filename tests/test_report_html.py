"""The HTML page: every number of the report, nothing fetched, nothing run."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from test_pipeline import FAKE, paths  # noqa: F401  (a fixture)

from caa_harness.cli import main
from caa_harness.pipeline import Run
from caa_harness.report.document import behavior_document, report_document
from caa_harness.report.html import html_report

VOID = {"meta", "br", "hr", "img", "link", "input", "col"}


class Page(HTMLParser):
    """Collects the tags and says where they do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def document(paths):  # noqa: F811
    run = Run(FAKE)
    run.expect(paths)
    behaviors, cases = {}, []
    for path in paths:
        spec = run.spec(path)
        found = behavior_document(
            spec, run.measurements(spec), run.verdicts(spec), run.summary(spec)
        )
        behaviors[str(path)] = found
        cases += [
            {"case": f"{path}::{one['id']}", "outcome": "passed", "judged": True, "error": None}
            for one in found["claims"]
        ]
    from datetime import UTC, datetime

    return report_document(
        behaviors=behaviors,
        cases=cases,
        unread=[],
        deselected=[],
        problems=[],
        options={"model": "fake"},
        inconclusive="fail",
        started=datetime.now(UTC),
        exit_status=0,
    )


def test_the_page_is_well_formed_and_names_every_behavior_and_claim(document):
    page = Page(html_report(document))

    assert page.open == []
    told = " ".join(page.text)
    for behavior in document["behaviors"]:
        assert behavior["behavior"] in told
        assert all(claim["id"] in told for claim in behavior["claims"])


def test_nothing_is_fetched_and_nothing_runs(document):
    page = Page(html_report(document))

    policies = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")]
    assert any("default-src 'none'" in policy for policy in policies)
    assert not {"script", "iframe", "object", "embed", "img"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src"):
            assert value.startswith("#"), (tag, name, value)


def test_texts_of_a_spec_are_escaped(document):
    document["behaviors"][0]["description"] = "<script>alert('x')</script>"
    document["behaviors"][0]["claims"][0]["reason"] = "<script>alert('y')</script> & \"more\""

    text = html_report(document)

    assert "<script" not in text
    Page(text)


def test_an_incomplete_report_says_so(document):
    document["complete"] = False

    assert "incomplete" in html_report(document).lower()


def test_the_verb_writes_the_page(document, tmp_path, capsys):
    report, page = tmp_path / "report.json", tmp_path / "page.html"
    report.write_text(json.dumps(document), encoding="utf-8")

    assert main(["report", str(report), "--html", str(page)]) == 0

    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert str(page) in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", '{"format": "other/1"}', "[]"])
def test_another_file_is_refused_and_nothing_is_written(content, tmp_path, capsys):
    report, page = tmp_path / "report.json", tmp_path / "page.html"
    report.write_text(content, encoding="utf-8")

    assert main(["report", str(report), "--html", str(page)]) == 2

    assert not page.exists()
    assert "report.json" in capsys.readouterr().err


def test_two_reports_are_compared(document, tmp_path, capsys):
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(document), encoding="utf-8")
    after.write_text(json.dumps(document), encoding="utf-8")
    assert main(["compare", str(before), str(after)]) == 0

    claims = [claim for one in document["behaviors"] for claim in one["claims"]]
    worse = next(claim for claim in claims if claim["outcome"] == "pass")
    worse["outcome"] = "fail"
    after.write_text(json.dumps(document), encoding="utf-8")

    assert main(["compare", str(before), str(after)]) == 1
    assert worse["id"] in capsys.readouterr().out


def test_a_page_must_be_asked_for(document, tmp_path, capsys):
    report = tmp_path / "report.json"
    report.write_text(json.dumps(document), encoding="utf-8")

    assert main(["report", str(report)]) == 2
    assert "--html" in capsys.readouterr().err


def test_markdown_names_every_behavior(document, tmp_path):
    report, page = tmp_path / "report.json", tmp_path / "page.md"
    report.write_text(json.dumps(document), encoding="utf-8")

    assert main(["report", str(report), "--markdown", str(page)]) == 0

    told = page.read_text(encoding="utf-8")
    assert all(behavior["behavior"] in told for behavior in document["behaviors"])
