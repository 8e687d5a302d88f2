"""The walk, from a spec file to its verdicts, each step taken once.

Options come in; a ``Run`` opens the engine when a number is first needed,
measures each spec once whatever the number of cases, and judges it.  Torch is
imported by opening a local engine and by nothing else.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from caa_harness import organism
from caa_harness.engines.replay import ReplayEngine
from caa_harness.errors import HarnessError, OptionError
from caa_harness.evaluation import measure_together
from caa_harness.measurements import Measurements, read_measurements, write_measurements
from caa_harness.spec import BehaviorSpec, SpecificityClaim, load_spec, sibling_specs, spec_json
from caa_harness.vectors import SteeringVector, compute_vectors
from caa_harness.verdict import BehaviorSummary, Verdict, judge, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from caa_harness.engines import Engine, PositionRule

EMBEDDED = "embedded"
FAKE = "fake"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run is made with; plain values, so that they travel to other processes."""

    model: str = EMBEDDED
    """``embedded``, ``fake``, a folder, or a hub name."""
    device: str = "auto"
    dtype: str = "auto"
    template: str | None = None
    layer: int | None = None
    """Overrides every spec's own rule."""
    batch_tokens: int | None = None
    open_ended: int = 0
    """Open-ended prompts of each spec to continue under -1, 0 and +1."""
    positions: PositionRule = "after_prompt"
    record: Path | None = None
    """Folder that gets one measurements file per spec."""
    replay: Path | None = None
    """Folder of measurements files to judge instead of measuring."""
    shared_folder: Path | None = None
    """Where the processes of one run leave measurements for each other."""


class Run:
    """One run of the harness; holds at most one engine and one measurement per spec."""

    def __init__(
        self,
        options: RunOptions,
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.options = options
        self._progress = progress
        self._engine: Engine | None = None
        self._specs: dict[Path, BehaviorSpec] = {}
        self._expected: list[Path] = []
        self._failures: dict[Path | str, HarnessError] = {}
        self._vectors: dict[Path, SteeringVector] = {}
        self._measurements: dict[Path, Measurements] = {}
        self._verdicts: dict[Path, tuple[Verdict, ...]] = {}
        self._summaries: dict[Path, BehaviorSummary] = {}

    @property
    def engine(self) -> Engine:
        """The model, opened when first asked for."""
        if self.options.replay is not None:
            raise OptionError(
                "a run that replays recorded measurements has no model",
                where="--caa-replay",
                remedy="leave out --caa-replay, or ask only for measurements and verdicts",
            )
        if self._engine is None:
            with self._once("engine"):
                self._engine = open_engine(self.options)
        return self._engine

    def spec(self, path: Path) -> BehaviorSpec:
        """Read a spec, once."""
        key = path.resolve()
        if key not in self._specs:
            self._specs[key] = load_spec(path)
        return self._specs[key]

    def expect(self, paths: Iterable[Path]) -> None:
        """Say which specs this run is going to judge, so that a folder's are measured together.

        Every process of a run must be told the same, or nothing.
        """
        self._expected = sorted({path.resolve() for path in paths})

    def layer(self, spec: BehaviorSpec) -> int:
        """Which decoder block this run steers for ``spec``."""
        card = self.engine.card
        if self.options.layer is not None:
            return self.options.layer
        return spec.layer.resolve(num_layers=card.num_layers, model=card.name)

    def vector(self, spec: BehaviorSpec) -> SteeringVector:
        """Return the steering vector that ``spec`` is measured with."""
        if _key(spec) not in self._vectors:
            layer = self.layer(spec)
            vectors = compute_vectors(
                self.engine,
                spec,
                [layer],
                seed=spec.seed,
                orders="paper" if spec.scoring == "paper" else "both",
            )
            self._vectors[_key(spec)] = vectors.at(layer)
        return self._vectors[_key(spec)]

    def measurements(self, spec: BehaviorSpec) -> Measurements:
        """Measure ``spec``, once per run, over all the processes that share a folder.

        Specs of the same folder that the run expects are measured with it, since they ask the
        same questions.  When one of them cannot be measured, the others still are, alone.
        """
        if _key(spec) not in self._measurements:
            specs = self._together(spec)
            with self._once(_key(spec)):
                try:
                    measured = self._shared(specs)
                except HarnessError:
                    if len(specs) == 1:
                        raise
                    specs = [spec]
                    measured = self._shared(specs)
            for one, found in zip(specs, measured, strict=True):
                self._measurements[_key(one)] = found
        return self._measurements[_key(spec)]

    def verdicts(self, spec: BehaviorSpec) -> tuple[Verdict, ...]:
        """Judge every claim of ``spec``, in the file's order."""
        if _key(spec) not in self._verdicts:
            measurements = self.measurements(spec)
            self._verdicts[_key(spec)] = judge(
                spec,
                measurements,
                layer=self.options.layer,
                siblings=self._siblings([spec]).keys() - {spec.behavior},
            )
        return self._verdicts[_key(spec)]

    def summary(self, spec: BehaviorSpec) -> BehaviorSummary:
        """Put a spec's numbers together for a report."""
        if _key(spec) not in self._summaries:
            self._summaries[_key(spec)] = summarise(
                spec, self.measurements(spec), self.verdicts(spec)
            )
        return self._summaries[_key(spec)]

    @contextmanager
    def _once(self, what: Path | str) -> Iterator[None]:
        """Try something dear once: a failure is raised again, not tried again."""
        if what in self._failures:
            raise self._failures[what]
        try:
            yield
        except HarnessError as error:
            self._failures[what] = error
            raise

    def _together(self, spec: BehaviorSpec) -> list[BehaviorSpec]:
        """List this spec and the expected ones of its folder that are still to be measured."""
        if self.options.replay is not None:
            return [spec]
        folder = _key(spec).parent
        specs = [spec]
        for path in self._expected:
            if path.parent != folder or path in (_key(spec), *self._measurements):
                continue
            try:
                found = self.spec(path)
            except HarnessError:  # its own cases say so
                continue
            specs.append(found)
        return sorted(specs, key=_key)

    def _shared(self, specs: list[BehaviorSpec]) -> tuple[Measurements, ...]:
        """Take another process's measurements where there are some, else make and leave them."""
        folder = self.options.shared_folder
        if folder is None:
            return self._measure(specs)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = self._recipe(specs)
        paths = [folder / f"{recipe}-{spec.behavior}.json" for spec in specs]
        with FileLock(folder / f"{recipe}.lock"):
            if all(path.exists() for path in paths):
                return tuple(read_measurements(path) for path in paths)
            measured = self._measure(specs)
            for found, path in zip(measured, paths, strict=True):
                write_measurements(found, path)
        return measured

    def _measure(self, specs: list[BehaviorSpec]) -> tuple[Measurements, ...]:
        """Measure with the engine, or look up what was recorded."""
        if self.options.replay is not None:
            return tuple(self._replay.measurements(spec) for spec in specs)
        measured = measure_together(
            specs,
            self.engine,
            siblings=self._siblings(specs),
            layer=self.options.layer,
            open_ended=self.options.open_ended,
            positions=self.options.positions,
            progress=self._progress,
        )
        folder = self.options.record
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for found in measured:
                write_measurements(found, folder / f"{found.behavior}.measurements.json")
        return measured

    def _siblings(self, specs: list[BehaviorSpec]) -> dict[str, BehaviorSpec]:
        """Load the specs of the folder, if a claim asks about others."""
        found = {spec.behavior: spec for spec in specs}
        for spec in specs:
            if any(isinstance(claim, SpecificityClaim) for claim in spec.claims):
                return {**sibling_specs(spec, load=self.spec), **found}
        return {}

    @cached_property
    def _replay(self) -> ReplayEngine:
        """The recorded measurements, read once."""
        assert self.options.replay is not None
        return ReplayEngine(self.options.replay)

    def _recipe(self, specs: list[BehaviorSpec]) -> str:
        """Hash everything that decides what this run measures for ``specs``."""
        options = {key: str(value) for key, value in asdict(self.options).items()}
        siblings = {name: other.digest for name, other in self._siblings(specs).items()}
        text = json.dumps([[spec_json(spec) for spec in specs], options, siblings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _key(spec: BehaviorSpec) -> Path:
    """Return what a spec is remembered by."""
    return spec.path.resolve()


def open_engine(options: RunOptions) -> Engine:
    """Open the model that ``options`` name."""
    if options.model == FAKE:
        from caa_harness.engines.fake import open_fake  # noqa: PLC0415

        return open_fake()
    from caa_harness.engines.local import open_local  # noqa: PLC0415  (imports torch)

    model = str(organism.model_path()) if options.model == EMBEDDED else options.model
    return open_local(
        model,
        device=options.device,
        dtype=options.dtype,
        template=options.template,
        batch_tokens=options.batch_tokens,
        name=options.model,
    )
