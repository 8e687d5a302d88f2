"""The walk, from a spec file to its verdicts, each step taken once.

Options come in; a ``Run`` opens the engine when a number is first needed,
measures each spec once whatever the number of cases, and judges it.  Torch is
imported by opening a local engine and by nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from caa_harness import organism
from caa_harness.engines.replay import ReplayEngine
from caa_harness.errors import OptionError
from caa_harness.evaluation import measure
from caa_harness.measurements import Measurements, read_measurements, write_measurements
from caa_harness.spec import BehaviorSpec, SpecificityClaim, load_spec, sibling_specs, spec_json
from caa_harness.vectors import SteeringVector, compute_vectors
from caa_harness.verdict import BehaviorSummary, Verdict, judge, summarise

if TYPE_CHECKING:
    from collections.abc import Callable

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
            self._engine = open_engine(self.options)
        return self._engine

    def spec(self, path: Path) -> BehaviorSpec:
        """Read a spec, once."""
        key = path.resolve()
        if key not in self._specs:
            self._specs[key] = load_spec(path)
        return self._specs[key]

    def layer(self, spec: BehaviorSpec) -> int:
        """Which decoder block this run steers for ``spec``."""
        card = self.engine.card
        if self.options.layer is not None:
            return self.options.layer
        return spec.layer.resolve(num_layers=card.num_layers, model=card.name)

    def vector(self, spec: BehaviorSpec) -> SteeringVector:
        """Return the steering vector that ``spec`` is measured with."""
        if spec.path not in self._vectors:
            layer = self.layer(spec)
            vectors = compute_vectors(
                self.engine,
                spec,
                [layer],
                seed=spec.seed,
                orders="paper" if spec.scoring == "paper" else "both",
            )
            self._vectors[spec.path] = vectors.at(layer)
        return self._vectors[spec.path]

    def measurements(self, spec: BehaviorSpec) -> Measurements:
        """Measure ``spec``, once per run, over all the processes that share a folder."""
        if spec.path not in self._measurements:
            self._measurements[spec.path] = self._shared_measurements(spec)
        return self._measurements[spec.path]

    def verdicts(self, spec: BehaviorSpec) -> tuple[Verdict, ...]:
        """Judge every claim of ``spec``, in the file's order."""
        if spec.path not in self._verdicts:
            self._verdicts[spec.path] = judge(
                spec, self.measurements(spec), layer=self.options.layer
            )
        return self._verdicts[spec.path]

    def summary(self, spec: BehaviorSpec) -> BehaviorSummary:
        """Put a spec's numbers together for a report."""
        if spec.path not in self._summaries:
            self._summaries[spec.path] = summarise(
                spec, self.measurements(spec), self.verdicts(spec)
            )
        return self._summaries[spec.path]

    def _shared_measurements(self, spec: BehaviorSpec) -> Measurements:
        """Take another process's measurement where there is one, else make it and leave it."""
        folder = self.options.shared_folder
        if folder is None:
            return self._measure(spec)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{spec.behavior}-{self._recipe(spec)}.json"
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                return read_measurements(path)
            measured = self._measure(spec)
            write_measurements(measured, path)
        return measured

    def _measure(self, spec: BehaviorSpec) -> Measurements:
        """Measure with the engine, or look up what was recorded."""
        if self.options.replay is not None:
            return ReplayEngine(self.options.replay).measurements(spec)
        measured = measure(
            spec,
            self.engine,
            siblings=_siblings(spec),
            layer=self.options.layer,
            open_ended=self.options.open_ended,
            positions=self.options.positions,
            progress=self._progress,
        )
        if self.options.record is not None:
            self.options.record.mkdir(parents=True, exist_ok=True)
            write_measurements(measured, self.options.record / f"{spec.behavior}.measurements.json")
        return measured

    def _recipe(self, spec: BehaviorSpec) -> str:
        """Hash everything that decides what this run measures for ``spec``."""
        options = {key: str(value) for key, value in asdict(self.options).items()}
        siblings = {name: other.digest for name, other in _siblings(spec).items()}
        text = json.dumps([spec_json(spec), options, siblings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


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
    )


def _siblings(spec: BehaviorSpec) -> dict[str, BehaviorSpec]:
    """Load the other specs of the folder, if a claim asks about them."""
    if not any(isinstance(claim, SpecificityClaim) for claim in spec.claims):
        return {}
    return sibling_specs(spec)
