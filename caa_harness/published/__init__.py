"""Published CAA data: the reference's datasets and results in, specs and measurements out.

The reference code (GitHub nrimsky/CAA) stores contrast pairs, test questions,
and the probabilities of the answer letters that Llama 2 gave under steering.
They become specs in ``paper`` scoring and measurements of them, so that
published numbers pass through the same claims and verdicts as anyone's.  What
cannot be taken over is listed with its reason.  Nothing here runs a model.

Folders, as the reference has them::

    datasets/generate/<behavior>/generate_dataset.json    pairs
    datasets/test/<behavior>/test_dataset_ab.json         held-out questions
    datasets/test/<behavior>/test_dataset_open_ended.json
    datasets/test/mmlu/mmlu.json                          capability probe
    results/**/results_layer=..._multiplier=....json      probabilities, texts

In or beside ``results``, where there are such: ``compact/*.csv`` with one run a
row, and ``vectors/<model>_layer_<L>.csv`` with the vectors themselves.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from caa_harness import __version__
from caa_harness.atomic import write_text
from caa_harness.engines import ModelCard
from caa_harness.engines.replay import SUFFIX
from caa_harness.errors import MeasurementError, OptionError
from caa_harness.measurements import (
    CapabilityMeasurements,
    Measurements,
    OpenEndedAnswer,
    VectorSummary,
    write_measurements,
)
from caa_harness.published.datasets import (
    DEFAULT_CLAIMS,
    DatasetImporter,
    ImportedSpec,
    Probe,
    SetAside,
)
from caa_harness.published.results import (
    Run,
    Setting,
    beside,
    read_runs,
    read_texts,
    read_vectors,
)
from caa_harness.published.tables import level_table, probe_table, shift_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from jaxtyping import Float32, Float64

    from caa_harness.vectors import SteeringVector

__all__ = ["DEFAULT_CLAIMS", "ImportReport", "SetAside", "import_caa"]

REPORT_NAME: Final = "import_report.json"
MACHINE_NOISE: Final = 2e-5
"""Two machines' probabilities of one run differ by up to 1.4e-5 in the published data."""

_SIZES: Final = {"7b": (32, 4096, "float32"), "13b": (40, 5120, "float16")}
_NOT_PUBLISHED: Final = "not published"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was made of the published data, and what was not."""

    specs: tuple[Path, ...]
    measurements: tuple[Path, ...]
    """At each spec's own layer, with the model's own vector: what ``--replay`` takes."""
    other_settings: tuple[Path, ...]
    """Other layers, other vectors, other prompts: one folder a setting."""
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...]
    tables: str
    """The published numbers, and what the letter-balanced view says of the same runs."""

    def __str__(self) -> str:
        """Write what ``text`` does."""
        return self.text()

    def text(self) -> str:
        """Everything in words, for a terminal."""
        counts = (
            f"{len(self.specs)} specs, {len(self.measurements)} measurements at their own layer,"
            f" {len(self.other_settings)} in other settings"
        )
        lines = [
            counts,
            *(f"set aside: {one.file} row {one.row}: {one.reason}" for one in self.set_aside),
            *self.notes,
        ]
        return "\n".join([*lines, "", self.tables]) if self.tables else "\n".join(lines)


def import_caa(
    datasets_folder: Path, results_folder: Path | None, out_folder: Path
) -> ImportReport:
    """Turn the reference's data into specs, and its stored results into measurements.

    Each behaviour's spec asks all of the published test questions, with the choices
    cut out of them and the published wording beside; scoring is ``paper``; the
    claims are ``DEFAULT_CLAIMS``.  A pair whose question is also a test question is
    set aside, so that the spec is sound and the paper's tables still reproduce.

    Parameters
    ----------
    datasets_folder : Path
        With ``generate`` and ``test``.
    results_folder : Path, optional
        With ``results_layer=*.json`` files in any depth.  Left out: specs only.
    out_folder : Path
        Gets the specs, ``measurements/`` for replay, ``other_settings/<setting>/``
        and ``import_report.json``.  Made when missing; files of the same name are
        replaced.

    Raises
    ------
    OptionError
        When ``results_folder`` is not there.
    SpecError
        When the datasets are not as the reference writes them.
    MeasurementError
        When a result is damaged, or belongs to other questions.
    """
    if results_folder is not None and not results_folder.is_dir():
        raise OptionError(
            "no such folder",
            where=str(results_folder),
            remedy="name the reference's `results` folder, or leave it out to import specs only",
        )
    out_folder.mkdir(parents=True, exist_ok=True)
    importer = DatasetImporter(datasets_folder, out_folder)
    importer.write_probe()
    imported = {behavior: importer.write_spec(behavior) for behavior in importer.behaviors()}
    stored = _Stored()
    if results_folder is not None:
        stored.read(results_folder, imported)
    written = _Written()
    for setting in sorted(stored.groups, key=lambda one: (one.behavior, one.slug)):
        _write_setting(
            setting,
            stored,
            imported[setting.behavior],
            probe=importer.probe,
            out_folder=out_folder,
            written=written,
        )
    report = ImportReport(
        specs=tuple(one.spec.path for one in imported.values()),
        measurements=tuple(written.own),
        other_settings=tuple(written.others),
        set_aside=tuple(importer.set_aside),
        notes=(*stored.notes, *written.notes),
        tables=_tables(written.shown),
    )
    write_text(out_folder / REPORT_NAME, _report_json(report, out_folder))
    return report


@dataclass(slots=True)
class _Stored:
    """Stored results, sorted into settings."""

    groups: dict[Setting, dict[str, dict[float, Run]]] = field(default_factory=dict)
    """By setting, then ``ab`` or ``mmlu``, then multiplier."""
    texts: dict[Setting, list[OpenEndedAnswer]] = field(default_factory=lambda: defaultdict(list))
    vectors: dict[tuple[str, str, int], SteeringVector] = field(default_factory=dict)
    """By model, behaviour and layer, as the evaluations used them."""
    notes: list[str] = field(default_factory=list)

    def read(self, results_folder: Path, imported: Mapping[str, ImportedSpec]) -> None:
        """Read a results folder; what belongs to no imported behaviour is noted."""
        strangers: set[str] = set()
        for run in read_runs(results_folder):
            if run.setting.behavior in imported:
                self._add(run)
            else:
                strangers.add(run.setting.behavior)
        for texts in read_texts(results_folder):
            self.texts[texts.setting] += [
                OpenEndedAnswer(prompt=prompt, multiplier=texts.multiplier, text=text)
                for prompt, text in texts.answers
            ]
        for model, vector in read_vectors(beside(results_folder, "vectors")):
            if vector.normalisation == "caa-mean-norm":
                self.vectors[model, vector.behavior, vector.layer] = vector
        for behavior in sorted(strangers):
            self.notes.append(f"left out: results of {behavior}, which has no datasets here")

    def _add(self, run: Run) -> None:
        """Put a run where it belongs; a second record of the same run must agree."""
        runs = self.groups.setdefault(run.setting, {}).setdefault(run.kind, {})
        first = runs.setdefault(run.multiplier, run)
        agrees = all(
            one.shape == other.shape and np.allclose(one, other, rtol=0, atol=MACHINE_NOISE)
            for one, other in ((first.a_prob, run.a_prob), (first.b_prob, run.b_prob))
        )
        if not agrees:
            raise MeasurementError(
                f"the same run is stored with other numbers in {first.source}",
                where=run.source,
                remedy="keep one of the two",
            )


@dataclass(slots=True)
class _Written:
    """Files that were written, and what to show of them."""

    own: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    shown: list[tuple[Measurements, Mapping[float, Run], Sequence[str]]] = field(
        default_factory=list
    )
    """Measurements at a spec's own layer, their runs and the published keys."""
    notes: list[str] = field(default_factory=list)


def _write_setting(
    setting: Setting,
    stored: _Stored,
    imported: ImportedSpec,
    *,
    probe: Probe | None,
    out_folder: Path,
    written: _Written,
) -> None:
    """Write the measurements of one setting, if they hold an unsteered run."""
    groups = stored.groups[setting]
    runs = groups.get("ab", {})
    if 0.0 not in runs:
        written.notes.append(
            f"left out: {setting.behavior} in {setting.slug}, which has no run at multiplier 0"
        )
        return
    measurements = _measurements(setting, stored, imported, probe)
    spec = imported.spec
    card = measurements.model
    layer = spec.layer.resolve(num_layers=card.num_layers, model=card.name)
    folder = out_folder / "other_settings" / setting.slug
    paths = written.others
    if setting.is_plain and setting.layer == layer and setting.model == "Llama-2-7b-chat-hf":
        folder, paths = out_folder / "measurements", written.own
        keys = [item["answer_matching_behavior"] for item in imported.test_items]
        written.shown.append((measurements, runs, keys))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{setting.behavior}{SUFFIX}"
    write_measurements(measurements, path)
    paths.append(path)


def _measurements(
    setting: Setting, stored: _Stored, imported: ImportedSpec, probe: Probe | None
) -> Measurements:
    """Turn one setting's runs into measurements of the imported spec."""
    spec = imported.spec
    runs = stored.groups[setting]["ab"]
    questions = [item["question"] for item in imported.test_items]
    rows = np.array(imported.held_out_rows)
    orders = np.array(
        [
            0 if row.as_published is not None and row.as_published.matching_letter == "A" else 1
            for row in spec.held_out
        ]
    )
    multipliers = tuple(sorted(runs))
    table = np.full((len(multipliers), len(rows), 2, 2), np.nan, dtype=np.float32)
    unscored: list[str] = []
    for place, multiplier in enumerate(multipliers):
        run = runs[multiplier]
        _check_items(run, questions)
        logprobs, missing = _logprobs(run)
        table[place, np.arange(len(rows)), orders] = logprobs[rows]
        if num := int(missing[rows].sum()):
            unscored.append(f"{num} questions at {multiplier:+g}: a stored probability is 0")
    return Measurements(
        behavior=spec.behavior,
        spec_digest=spec.digest,
        scoring="paper",
        model=_model_card(setting),
        vector=_vector_summary(setting, stored, imported),
        multipliers=multipliers,
        questions=tuple(question.digest for question in spec.held_out),
        clusters=tuple(question.cluster for question in spec.held_out),
        answer_logprobs=table,
        capability=_capability(stored.groups[setting].get("mmlu", {}), probe),
        nulls=(),
        others=(),
        open_ended=tuple(stored.texts.get(setting, ())),
        unscored=tuple(unscored),
        notes=(
            "imported from the stored results of nrimsky/CAA, one letter order a question",
            f"setting: {setting.slug}",
            *_odd_keys_note(imported),
        ),
    )


def _odd_keys_note(imported: ImportedSpec) -> Iterable[str]:
    """Say how many published items are no questions of the spec."""
    if num := len(imported.test_items) - len(imported.held_out_rows):
        yield (
            f"{num} of {len(imported.test_items)} published items are not (A)/(B) questions;"
            " the published score counts each as 0"
        )


def _capability(runs: Mapping[float, Run], probe: Probe | None) -> CapabilityMeasurements | None:
    """Turn the probe's runs into measurements of the probe."""
    if probe is None or 0.0 not in runs:
        return None
    multipliers = tuple(sorted(runs))
    table = np.zeros((len(multipliers), len(probe.correct), 2), dtype=np.float32)
    for place, multiplier in enumerate(multipliers):
        _check_items(runs[multiplier], probe.prompts)
        logprobs, _ = _logprobs(runs[multiplier])
        table[place] = logprobs[list(probe.rows)]
    return CapabilityMeasurements(
        multipliers=multipliers,
        option_logprobs=table,
        correct=np.array(probe.correct, dtype=np.int64),
        categories=probe.categories,
    )


def _logprobs(
    run: Run,
) -> tuple[Float32[np.ndarray, "item letter"], Float64[np.ndarray, " item"]]:
    """Log-probabilities of both letters, and which items have a probability of 0 (NaN)."""
    probabilities = np.stack([run.a_prob, run.b_prob], axis=-1)
    missing = (probabilities == 0).any(axis=-1)
    probabilities[missing] = np.nan
    return np.log(probabilities).astype(np.float32), missing


def _check_items(run: Run, asked: Sequence[str]) -> None:
    """Refuse results of other questions than the dataset's."""
    if len(run.a_prob) != len(asked):
        raise MeasurementError(
            f"{len(run.a_prob)} results where the dataset has {len(asked)} items",
            where=run.source,
            remedy="import results together with the datasets they were made from",
        )
    for row, (item, question) in enumerate(zip(run.items or asked, asked, strict=True)):
        if item != question:
            raise MeasurementError(
                f"row {row} asks something else than the dataset's row {row}",
                where=run.source,
                remedy="import results together with the datasets they were made from",
            )


def _model_card(setting: Setting) -> ModelCard:
    """Say of the model what the reference says of it."""
    size = next((size for size in _SIZES if f"-{size}-" in setting.model), None)
    if size is None:
        raise MeasurementError(
            f"nothing is known of the model {setting.model}",
            where=setting.slug,
            remedy=f"import results of the sizes {', '.join(_SIZES)}",
        )
    num_layers, d_model, dtype = _SIZES[size]
    return ModelCard(
        name=f"meta-llama/{setting.model}",
        architecture="LlamaForCausalLM",
        num_layers=num_layers,
        d_model=d_model,
        dtype=dtype,
        device=_NOT_PUBLISHED,
        template="llama-2" if "-chat-" in setting.model else "input-response",
        weights_digest=setting.finetuned or _NOT_PUBLISHED,
        tokenizer_digest=_NOT_PUBLISHED,
    )


def _vector_summary(setting: Setting, stored: _Stored, imported: ImportedSpec) -> VectorSummary:
    """Say of the vector what is published; NaN where nothing is."""
    vector = stored.vectors.get((setting.vector_model, setting.behavior, setting.vector_layer))
    return VectorSummary(
        layer=setting.layer,
        norm=float("nan") if vector is None else vector.norm,
        num_pairs=imported.num_published_pairs,
        mean_residual_norm=float("nan"),
        digest=_NOT_PUBLISHED if vector is None else vector.digest,
        normalisation="caa-mean-norm",
    )


def _tables(
    shown: Sequence[tuple[Measurements, Mapping[float, Run], Sequence[str]]],
) -> str:
    """Put the published numbers and the letter-balanced ones side by side."""
    if not shown:
        return ""
    measured = [measurements for measurements, _, _ in shown]
    tables = [level_table(shown), shift_table(measured), probe_table(measured)]
    return "\n\n".join(table for table in tables if table)


def _report_json(report: ImportReport, out_folder: Path) -> str:
    """Write the report as JSON, paths relative to the folder it stands in."""
    document = {
        "harness_version": __version__,
        **{
            key: [path.relative_to(out_folder).as_posix() for path in getattr(report, key)]
            for key in ("specs", "measurements", "other_settings")
        },
        "set_aside": [asdict(one) for one in report.set_aside],
        "notes": list(report.notes),
        "tables": report.tables.splitlines(),
    }
    return json.dumps(document, indent=1) + "\n"
