"""Fixtures for people's own tests: the run, its engine, and one spec's numbers.

The run and its engine live as long as the session.  What belongs to a spec is
looked up in the run, which measures each spec once, so that asking again costs
nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_caa.collection import ClaimCase, resolve
from pytest_caa.options import settings_key
from pytest_caa.progress import bar_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caa_harness.engines import Engine
    from caa_harness.evaluation import Measurements
    from caa_harness.pipeline import Run
    from caa_harness.spec import BehaviorSpec
    from caa_harness.vectors import SteeringVector
    from caa_harness.verdict import Verdict


@contextlib.contextmanager
def _in_its_own_words() -> Iterator[None]:
    """Turn a harness error into a message without Python frames."""
    from caa_harness.errors import HarnessError

    try:
        yield
    except HarnessError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="session")
def caa_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give the harness's run: one engine, opened when first needed, one measurement per spec."""
    from caa_harness.pipeline import Run, RunOptions

    config = request.config
    shared = None
    if hasattr(config, "workerinput"):
        # The parent of a worker's folder is common to the workers of this run.
        shared = tmp_path_factory.getbasetemp().parent / "caa"
    options = RunOptions(**config.stash[settings_key].run, shared_folder=shared)
    run = Run(options, progress=config.stash[bar_key])
    run.expect(item.path for item in request.session.items if isinstance(item, ClaimCase))
    return run


@pytest.fixture(scope="session")
def caa_engine(caa_run: Run) -> Engine:
    """Give the model of ``--caa-model``, opened once per session (and worker)."""
    with _in_its_own_words():
        return caa_run.engine


@pytest.fixture
def caa_spec(request: pytest.FixtureRequest, caa_run: Run) -> BehaviorSpec:
    """Give the behavior spec that the test's marker names.

    ``@pytest.mark.caa(spec="x.behavior.json")`` names one file,
    ``@pytest.mark.caa(specs="behavior_specs")`` makes one case per file of a
    folder.  Paths start beside the test file, or at the root folder.
    """
    mark = request.node.get_closest_marker("caa")
    path = getattr(request, "param", None)
    if path is None and mark is not None and "spec" in mark.kwargs:
        path = resolve(request.config, request.node.path, mark.kwargs["spec"])
    if path is None:
        pytest.fail(
            f"{request.node.nodeid}: caa_spec needs a marker that names a spec\n"
            "  try: @pytest.mark.caa(spec='x.behavior.json')",
            pytrace=False,
        )
    with _in_its_own_words():
        return caa_run.spec(Path(path))


@pytest.fixture
def caa_vector(caa_run: Run, caa_spec: BehaviorSpec) -> SteeringVector:
    """Give the steering vector of the test's spec, computed once per session."""
    with _in_its_own_words():
        return caa_run.vector(caa_spec)


@pytest.fixture
def caa_measurements(
    request: pytest.FixtureRequest, caa_run: Run, caa_spec: BehaviorSpec
) -> Measurements:
    """Give everything measured for the test's spec: plain arrays, nothing judged."""
    from pytest_caa.judging import check_model

    with _in_its_own_words():
        measurements = caa_run.measurements(caa_spec)
        check_model(measurements, request.config.stash[settings_key].require)
        return measurements


@pytest.fixture
def caa_verdicts(
    caa_run: Run, caa_spec: BehaviorSpec, caa_measurements: Measurements
) -> tuple[Verdict, ...]:
    """Give the verdicts on every claim of the test's spec, in the file's order."""
    del caa_measurements  # measured first, and on the model that was required
    with _in_its_own_words():
        return caa_run.verdicts(caa_spec)
