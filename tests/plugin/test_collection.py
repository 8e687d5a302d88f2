"""Collecting specs: one case per claim, found by name and by marker, without a model."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

HEAVY = {"numpy", "scipy", "torch", "transformers", "rich", "safetensors"}


def test_each_claim_is_a_case_named_after_the_claim(pytester, write_spec):
    write_spec()

    result = pytester.runpytest_inprocess("specs", "--collect-only", "-q")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "specs/candor.behavior.json::shift[[]m+1]",
            "specs/candor.behavior.json::shift[[]m-1]",
            "specs/candor.behavior.json::level[[]m+0]",
        ],
        consecutive=True,
    )


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["specs/candor.behavior.json::shift[m-1]"], 1),
        (["specs", "-k", "shift"], 2),
        (["specs", "-k", "candor and level"], 1),
        (["specs", "-m", "caa"], 3),
        (["specs", "-m", "caa_level"], 1),
        (["specs", "-m", "not caa_level"], 2),
        (["specs", "-m", "caa(type='shift')"], 2),
        (["specs", "-m", "caa(behavior='candor')"], 3),
        (["specs", "--deselect", "specs/candor.behavior.json::shift[m-1]"], 2),
    ],
)
def test_claims_are_selected_as_tests_are(pytester, write_spec, arguments, count):
    write_spec()

    result = pytester.runpytest_inprocess("--collect-only", "-q", "--strict-markers", *arguments)

    assert sum("::" in line for line in result.outlines) == count


def test_the_strictest_pytest_finds_nothing_to_say(pytester, write_spec):
    write_spec()
    pytester.makepyprojecttoml("[tool.pytest]\nstrict = true\nfilterwarnings = ['error']\n")

    result = pytester.runpytest_inprocess("specs", "--collect-only", "-q")

    assert result.ret == 0
    result.stdout.fnmatch_lines("3 tests collected*")


def test_a_claim_is_located_at_its_line_in_the_file(pytester, write_spec):
    path = write_spec()
    items, _ = pytester.inline_genitems("specs")

    lines = path.read_text(encoding="utf-8").splitlines()

    for item in items:
        where, line, name = item.reportinfo()
        assert where == path
        # The claim's object opens on this line, and its type is on the next.
        assert lines[line].strip() == "{"
        assert lines[line + 1].strip() == f'"type": "{name.split("::")[1].split("[")[0]}",'


def test_other_json_files_are_left_alone(pytester):
    pytester.path.joinpath("data.json").write_text("{", encoding="utf-8")

    result = pytester.runpytest_inprocess("--collect-only")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_ignored_folders_stay_ignored(pytester, write_spec):
    write_spec(folder="old")
    write_spec()

    items, _ = pytester.inline_genitems("--ignore", "old")

    assert len(items) == 3


def test_a_broken_spec_names_all_its_problems_and_stops_the_session(pytester, write_spec):
    claim = {"type": "shft", "multiplier": 1, "at_least": 0.1}
    write_spec(claims=[claim], sgin="?", seed="seven")

    result = pytester.runpytest_inprocess("specs")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    shown = result.stdout.str()
    assert "did you mean 'shift'" in shown.replace('"', "'")
    assert "sgin" in shown
    assert "/seed" in shown
    assert "Traceback" not in shown
    assert "collection.py" not in shown


def test_an_empty_folder_is_no_success(pytester):
    pytester.mkdir("specs")

    result = pytester.runpytest_inprocess("specs")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_ini_file_can_narrow_the_names(pytester, write_spec):
    write_spec("candor")
    write_spec("tact")

    result = pytester.runpytest_inprocess(
        "--collect-only", "-q", "-o", "caa_files=t*.behavior.json"
    )

    assert sum("tact.behavior.json::" in line for line in result.outlines) == 3
    assert "candor" not in result.stdout.str()


def test_specs_may_lie_outside_the_root_folder(pytester, write_spec):
    write_spec()
    elsewhere = pytester.mkdir("elsewhere")

    result = pytester.runpytest_inprocess("specs", "--rootdir", elsewhere, "--collect-only", "-q")

    assert result.ret == 0
    result.stdout.fnmatch_lines("*candor.behavior.json::shift[[]m-1[]]")


def test_loading_the_plugin_costs_little():
    script = (
        "import argparse, dataclasses, pytest, time\n"
        "import _pytest.terminal, _pytest.junitxml, _pytest.cacheprovider\n"
        "start = time.process_time()\n"
        "import pytest_caa, pytest_caa.results, pytest_caa.workers\n"
        "print(time.process_time() - start)\n"
    )

    seconds = [
        float(
            subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
        )
        for _ in range(3)
    ]

    assert min(seconds) < 0.05


def imported(pytester, *, conftest=""):
    """What a session that collects specs has imported, with no other plugin about."""
    pytester.makeconftest(conftest)
    script = (
        "import sys, pytest\n"
        "status = pytest.main(['-p', 'pytest_caa', 'specs', '--collect-only', '-q'])\n"
        "assert status == 0, status\n"
        "assert 'caa_harness.spec' in sys.modules\n"
        "print('imported:', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("imported:")[2].split())


def test_collecting_imports_nothing_heavy(pytester, write_spec):
    write_spec()

    assert not imported(pytester) & HEAVY


def test_the_list_of_imports_would_show_a_heavy_one(pytester, write_spec):
    write_spec()

    assert "numpy" in imported(pytester, conftest="import numpy")


def test_the_markers_are_listed_with_their_arguments(pytester):
    from pytest_caa.options import CLAIM_TYPES

    result = pytester.runpytest_inprocess("--markers")

    shown = result.stdout.str()
    assert "@pytest.mark.caa(spec=None, specs=None)" in shown
    assert all(f"@pytest.mark.caa_{kind}:" in shown for kind in CLAIM_TYPES)


def test_every_claim_type_of_the_format_has_its_marker():
    from pytest_caa.options import CLAIM_TYPES

    import caa_harness.spec
    from caa_harness.report.document import claim_type

    kinds = [
        claim_type(kind.__new__(kind))
        for kind in vars(caa_harness.spec).values()
        if isinstance(kind, type)
        and issubclass(kind, caa_harness.spec.Claim)
        and kind is not caa_harness.spec.Claim
    ]

    assert sorted(kinds) == sorted(CLAIM_TYPES)
