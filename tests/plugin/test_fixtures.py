"""Fixtures and the marker: people's own tests on a spec, each thing made once."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FAKE = ("--caa-model", "fake", "-W", "error")


def test_one_spec_by_its_path(pytester, write_spec):
    write_spec()
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.caa(spec="specs/candor.behavior.json")
        def test_all(caa_run, caa_engine, caa_spec, caa_vector, caa_measurements, caa_verdicts):
            assert caa_spec.behavior == "candor"
            assert caa_run.spec(caa_spec.path) is caa_spec
            assert caa_engine.card.name == caa_measurements.model.name == "fake"
            assert caa_vector.layer == caa_measurements.vector.layer == 2
            assert caa_vector.direction.shape == (caa_engine.card.d_model,)
            assert caa_measurements.answer_logprobs.shape == (5, 24, 2, 2)
            assert [verdict.outcome for verdict in caa_verdicts] == ["pass"] * 3
        """
    )

    result = pytester.runpytest_inprocess(*FAKE, "--strict-markers")

    # The folder's own three claims are collected as well.
    result.assert_outcomes(passed=4)


def test_once_per_spec_of_a_folder(pytester, write_spec):
    write_spec("candor")
    write_spec("tact")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.caa(specs="specs")
        def test_norm(caa_vector, caa_spec, request):
            assert caa_spec.behavior in request.node.nodeid
            assert caa_vector.num_pairs == 16
        """
    )

    result = pytester.runpytest_inprocess(*FAKE, "-v", "-k", "test_norm")

    result.assert_outcomes(passed=2, deselected=6)
    result.stdout.fnmatch_lines(["*::test_norm[[]candor[]] PASSED*", "*::test_norm[[]tact[]] *"])


def test_a_path_may_start_beside_the_test_or_at_the_root(pytester, write_spec):
    write_spec("candor", folder="specs")
    folder = pytester.mkdir("tests")
    folder.joinpath("tact.behavior.json").write_text(
        write_spec("tact").read_text(encoding="utf-8"), encoding="utf-8"
    )
    folder.joinpath("test_paths.py").write_text(
        "import pytest\n"
        "@pytest.mark.caa(spec='specs/candor.behavior.json')\n"
        "def test_root(caa_spec): assert caa_spec.behavior == 'candor'\n"
        "@pytest.mark.caa(spec='tact.behavior.json')\n"
        "def test_beside(caa_spec): assert caa_spec.path.parent.name == 'tests'\n",
        encoding="utf-8",
    )

    result = pytester.runpytest_inprocess(*FAKE, "tests/test_paths.py")

    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("specs='nothing'", "no behavior spec in *nothing*"),
        ("spec='a', specs='b'", "takes one of spec='x.behavior.json' and specs='FOLDER'*"),
        ("path='specs'", "*found: path"),
        ("'specs'", "*found: 1 positional, 0 named"),
    ],
)
def test_a_marker_that_names_nothing_stops_the_collection(pytester, write_spec, marker, words):
    write_spec()
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.caa({marker})\ndef test_one(caa_spec): pass\n"
    )

    result = pytester.runpytest_inprocess(*FAKE)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(f"*::test_one: @pytest.mark.caa: {words}")
    assert "in generate_tests" not in result.stdout.str()
    assert "never reported" not in result.stdout.str()


def test_a_folder_of_specs_needs_a_fixture_that_carries_them(pytester, write_spec):
    write_spec()
    pytester.makepyfile("import pytest\n@pytest.mark.caa(specs='specs')\ndef test_one(): pass\n")

    result = pytester.runpytest_inprocess(*FAKE)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines("*try: ask for caa_spec, caa_vector, *")


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("", "*caa_spec needs a marker that names a spec*"),
        ("@pytest.mark.caa(spec='gone.behavior.json')", "gone.behavior.json:1:1: *no such file"),
    ],
)
def test_a_fixture_without_its_spec_says_what_is_missing(pytester, marker, words):
    pytester.makepyfile(f"import pytest\n{marker}\ndef test_one(caa_spec): pass\n")

    result = pytester.runpytest_inprocess(*FAKE)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(words)
    assert "fixtures.py" not in result.stdout.str()
    assert "exception" not in result.stdout.str()


def test_a_layer_outside_the_model_is_told_without_python_frames(pytester, write_spec):
    write_spec()
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.caa(spec='specs/candor.behavior.json')\n"
        "def test_one(caa_vector): pass\n"
    )

    result = pytester.runpytest_inprocess(*FAKE, "--caa-layer", "40")

    result.assert_outcomes(errors=1, failed=3)
    shown = result.stdout.str()
    assert shown.count("layer 40 is outside the model, which has 4 layers") >= 4
    assert "vectors.py" not in shown
    assert "fixtures.py" not in shown


COUNTING = """
    import pathlib
    from caa_harness.engines.fake import FakeEngine

    asked = FakeEngine.answer_residuals

    def counted(self, prompts, layers, **rest):
        with pathlib.Path({log!r}).open("a") as stream:
            stream.write("residuals\\n")
        return asked(self, prompts, layers, **rest)

    FakeEngine.answer_residuals = counted
"""


@pytest.mark.parametrize("workers", [[], pytest.param(["-n2"], marks=pytest.mark.slow)])
def test_a_spec_is_measured_once_however_many_cases_there_are(pytester, write_spec, workers):
    write_spec()
    log = pytester.path / "log.txt"
    pytester.makeconftest(COUNTING.format(log=str(log)))

    result = pytester.runpytest_subprocess("specs", "--caa-model", "fake", *workers)

    assert result.parseoutcomes()["passed"] == 3
    assert log.read_text(encoding="utf-8").split() == ["residuals"]


def test_what_was_recorded_is_judged_again_without_a_model(pytester, write_spec):
    write_spec()
    measured = pytester.runpytest_inprocess("specs", "--caa-model", "fake", "--caa-record", "r")

    replayed = pytester.runpytest_inprocess("specs", "--caa-replay", "r")

    assert measured.ret == replayed.ret == 0
    table = [line for line in measured.outlines if line.startswith(("candor ", "layer 2, n 24"))]
    assert len(table) == 2
    assert [line for line in replayed.outlines if line in table] == table


@pytest.mark.parametrize(("model", "outcome"), [("org/other-7b", "errors"), ("fake", "passed")])
def test_fixtures_hold_replayed_numbers_to_the_required_model(pytester, write_spec, model, outcome):
    write_spec()
    pytester.runpytest_inprocess("specs", "--caa-model", "fake", "--caa-record", "r")
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.caa(specs='specs')\n"
        "def test_one(caa_verdicts): assert caa_verdicts\n"
    )
    mine = "test_fixtures_hold_replayed_numbers_to_the_required_model.py"

    result = pytester.runpytest_inprocess(mine, "--caa-replay", "r", "--caa-require", model)

    assert result.parseoutcomes() == {outcome: 1}
    assert ("measured on 'fake', not" in result.stdout.str()) == (outcome == "errors")


def test_the_fixtures_explain_themselves(pytester):
    result = pytester.runpytest_inprocess("--fixtures")

    shown = result.stdout.str()
    for name in ("run", "engine", "spec", "vector", "measurements", "verdicts"):
        assert f"caa_{name}" in shown
    assert "no docstring available" not in shown


def test_fixtures_of_third_parties_see_the_cases_as_functions(pytester, write_spec):
    write_spec()
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def note(request, tmp_path):
            assert request.node.path.name == "candor.behavior.json"
            assert callable(request.function)
            request.node.user_properties.append(("seen", 1))
        """
    )

    result = pytester.runpytest_inprocess("specs", *FAKE)

    assert result.ret == 0
    result.assert_outcomes(passed=3)


def test_setup_plan_names_the_run_and_measures_nothing(pytester, write_spec):
    write_spec()

    result = pytester.runpytest_inprocess("specs", "--caa-model", "fake", "--setup-plan")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["*SETUP    S caa_run*"])
    assert "claims:" not in result.stdout.str()
