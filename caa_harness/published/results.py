"""Stored results of the reference: files of probabilities in, runs out.

A run is one behaviour's vector at one layer and multiplier, and the
probability of both letters for every item.  The reference writes a JSON file a
run and says in its name what was run; ``compact/*.csv`` hold the same, one run
a row.  Nothing here knows what the items ask.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from caa_harness.errors import MeasurementError
from caa_harness.vectors import LAYER_NUMBERING, SITE, TOKEN_RULE, SteeringVector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jaxtyping import Float64

_FILE_NAME: Final = re.compile(
    r"results_layer=(?P<layer>\d+)_multiplier=(?P<multiplier>-?\d+(?:\.\d+)?)"
    r"_behavior=(?P<behavior>.+?)_type=(?P<kind>ab|open_ended|mmlu|truthful_qa)"
    r"(?:_system_prompt=(?P<system_prompt>pos|neg))?"
    r"(?:_override_vector=(?P<vector_layer>\d+))?"
    r"(?:_override_vector_model=(?P<vector_model>.+?))?"
    r"_use_base_model=(?P<base>True|False)_model_size=(?P<size>\w+?)"
    r"(?:_override_model_weights_path=(?P<finetuned>.+))?\.json"
)
_VECTOR_FILE: Final = re.compile(r"(?P<model>.+)_layer_(?P<layer>\d+)\.csv")
_CSV_KEYS: Final = (
    "behavior",
    "model_size",
    "layer",
    "multiplier",
    "system_prompt",
    "vector_layer",
    "vector_model",
    "finetuned",
    "n",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that the runs of one dose response share."""

    behavior: str
    model: str
    """Basename of the model that was steered, such as ``Llama-2-7b-chat-hf``."""
    layer: int
    vector_layer: int
    vector_model: str
    system_prompt: str
    """``pos``, ``neg``, or empty."""
    finetuned: str
    """Weights that replaced the model's own, or empty."""

    @property
    def is_plain(self) -> bool:
        """Whether the vector is the model's own, of the layer it is added to, and nothing else."""
        own = self.vector_layer == self.layer and self.vector_model == self.model
        return own and not self.system_prompt and not self.finetuned

    @property
    def slug(self) -> str:
        """A folder's name that tells this setting from the others of its behaviour."""
        parts = [self.model, f"layer-{self.layer:02d}"]
        if self.vector_layer != self.layer:
            parts.append(f"vector-of-layer-{self.vector_layer:02d}")
        if self.vector_model != self.model:
            parts.append(f"vector-of-{self.vector_model}")
        if self.system_prompt:
            parts.append(f"system-{self.system_prompt}")
        if self.finetuned:
            parts.append("finetuned-" + re.sub(r"[^A-Za-z0-9.-]+", "-", self.finetuned))
        return "_".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """Probabilities of both letters under one multiplier."""

    source: str
    """File and row, for messages."""
    setting: Setting
    kind: str
    """``ab`` or ``mmlu``."""
    multiplier: float
    a_prob: Float64[np.ndarray, " item"]
    b_prob: Float64[np.ndarray, " item"]
    items: tuple[str, ...] | None
    """What was asked, where the file says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Continuations of the open-ended prompts under one multiplier."""

    setting: Setting
    multiplier: float
    answers: tuple[tuple[str, str], ...]
    """Prompt and what the model wrote."""


def read_json(path: Path) -> Any:
    """Parse a file of the reference."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeasurementError(
            f"not a readable JSON file ({error})",
            where=str(path),
            remedy="take the file anew from the reference's repository",
        ) from error


def beside(results_folder: Path, name: str) -> Path:
    """Find ``compact`` or ``vectors`` in the results folder, or else beside it."""
    inside = results_folder / name
    return inside if inside.is_dir() else results_folder.parent / name


def read_runs(results_folder: Path) -> Iterator[Run]:
    """Read every stored run, JSON files first."""
    for path in sorted(results_folder.rglob("results_layer=*.json")):
        name = _parse_name(path)
        if name["kind"] in {"ab", "mmlu"}:
            yield _json_run(path, name)
    for path in sorted(beside(results_folder, "compact").glob("*.csv")):
        yield from _csv_runs(path)


def read_texts(results_folder: Path) -> Iterator[Texts]:
    """Read every stored set of open-ended continuations."""
    for path in sorted(results_folder.rglob("results_layer=*_type=open_ended_*.json")):
        name = _parse_name(path)
        rows = read_json(path)
        try:
            answers = tuple((str(row["question"]), str(row["model_output"])) for row in rows)
        except (KeyError, TypeError) as error:
            raise _damaged(path, f"a row without question or model_output ({error})") from error
        yield Texts(
            setting=_setting_of(name), multiplier=float(name["multiplier"]), answers=answers
        )


def read_vectors(folder: Path) -> Iterator[tuple[str, SteeringVector]]:
    """Read ``<model>_layer_<L>.csv``: a column a vector, ``raw:`` or ``normalized:``.

    Yields the model's basename with each vector.
    """
    for path in sorted(folder.glob("*.csv")):
        if match := _VECTOR_FILE.fullmatch(path.name):
            for vector in _vectors_of(path, match["model"], int(match["layer"])):
                yield match["model"], vector


def _vectors_of(path: Path, model: str, layer: int) -> Iterator[SteeringVector]:
    """Read one file of vectors."""
    with path.open(encoding="utf-8", newline="") as stream:
        columns = next(csv.reader(stream))
        table = np.loadtxt(stream, delimiter=",", dtype=np.float64, ndmin=2)
    if table.shape[1] != len(columns) or not np.isfinite(table).all():
        raise _damaged(path, "columns of different lengths, or a number that is not finite")
    for column, values in zip(columns, table.T, strict=True):
        kind, _, behavior = column.partition(":")
        if kind not in {"raw", "normalized"} or not behavior:
            raise _damaged(path, f"a column is called {column!r}")
        yield SteeringVector(
            behavior=behavior,
            layer=layer,
            direction=values.astype(np.float32),
            num_pairs=0,
            mean_residual_norm=float("nan"),
            normalisation="raw" if kind == "raw" else "caa-mean-norm",
            orders="paper",
            provenance={
                "model": model,
                "weights_digest": model,
                "site": SITE,
                "layer_numbering": LAYER_NUMBERING,
                "token_rule": TOKEN_RULE,
            },
        )


def _parse_name(path: Path) -> dict[str, str]:
    """Read what was run off a file's name."""
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        raise _damaged(path, "the file's name does not say what was run")
    return {key: value or "" for key, value in match.groupdict().items()}


def _setting_of(name: Mapping[str, str]) -> Setting:
    """Turn a file name's parts into a setting."""
    model = f"Llama-2-{name['size']}" + ("-hf" if name["base"] == "True" else "-chat-hf")
    layer = int(name["layer"])
    return Setting(
        behavior=name["behavior"],
        model=model,
        layer=layer,
        vector_layer=int(name["vector_layer"] or layer),
        vector_model=name["vector_model"] or model,
        system_prompt=name["system_prompt"],
        finetuned=name["finetuned"],
    )


def _json_run(path: Path, name: Mapping[str, str]) -> Run:
    """Read one result file."""
    rows = read_json(path)
    try:
        item_key = "question" if name["kind"] == "ab" else "prompt"
        items = tuple(str(row[item_key]) for row in rows)
        a_prob, b_prob = (np.array([float(row[k]) for row in rows]) for k in ("a_prob", "b_prob"))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"a row without its item, a_prob or b_prob ({error})") from error
    return _checked(
        Run(
            source=str(path),
            setting=_setting_of(name),
            kind=name["kind"],
            multiplier=float(name["multiplier"]) + 0.0,
            a_prob=a_prob,
            b_prob=b_prob,
            items=items,
        )
    )


def _csv_runs(path: Path) -> Iterator[Run]:
    """Read one compact file; one that holds no letter probabilities is passed over."""
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        if tuple(header[: len(_CSV_KEYS)]) != _CSV_KEYS:
            return
        kind = "mmlu" if path.stem.startswith("mmlu") else "ab"
        for line, row in enumerate(reader, start=2):
            yield _csv_run(f"{path}:{line}", kind, row)


def _csv_run(source: str, kind: str, row: list[str]) -> Run:
    """Read one row of a compact file."""
    values = dict(zip(_CSV_KEYS, row, strict=False))
    try:
        n = int(values["n"])
        numbers = np.array([float(cell) for cell in row[len(_CSV_KEYS) :]])
        if len(numbers) != 2 * n:
            raise _damaged(source, f"{len(numbers)} probabilities where 2 x {n} belong")
        setting = Setting(
            behavior=values["behavior"],
            model=f"Llama-2-{values['model_size']}-chat-hf",
            layer=int(values["layer"]),
            vector_layer=int(values["vector_layer"] or values["layer"]),
            vector_model=values["vector_model"] or f"Llama-2-{values['model_size']}-chat-hf",
            system_prompt=values["system_prompt"],
            finetuned=values["finetuned"],
        )
        multiplier = float(values["multiplier"]) + 0.0
    except (KeyError, ValueError) as error:
        raise _damaged(source, f"a cell that cannot be read ({error})") from error
    return _checked(
        Run(
            source=source,
            setting=setting,
            kind=kind,
            multiplier=multiplier,
            a_prob=numbers[:n],
            b_prob=numbers[n:],
            items=None,
        )
    )


def _checked(run: Run) -> Run:
    """Refuse what is no probability; NaN compares false and is refused too."""
    for values in (run.a_prob, run.b_prob):
        if not ((values >= 0) & (values <= 1)).all():
            raise _damaged(run.source, "a probability outside [0, 1]")
    return run


def _damaged(where: Path | str, found: str) -> MeasurementError:
    """Make the error for a file that is not as the reference writes it."""
    return MeasurementError(
        found, where=str(where), remedy="take the file anew from the reference's repository"
    )
