"""Measurements: what was measured for one spec on one model, and its file.

Plain numbers come in and go out: log-probabilities of answer letters, texts,
and what they were measured with.  A file holds them to the last bit and says so
with a checksum; one that is damaged is refused.  Nothing here runs a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from caa_harness.atomic import write_text
from caa_harness.engines import ModelCard
from caa_harness.errors import MeasurementError

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32, Int64

FORMAT = "caa-measurements/1"

_MAX_LOGPROB = 1e-3
"""Log-probabilities are at most 0, but for rounding."""
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CapabilityMeasurements:
    """The probe under every multiplier, one letter order per item."""

    multipliers: tuple[float, ...]
    option_logprobs: Float32[np.ndarray, "multiplier item option"]
    """NaN where an item has fewer options, or could not be scored."""
    correct: Int64[np.ndarray, " item"]
    categories: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullMeasurements:
    """The held-out questions under vectors that should do nothing."""

    kind: str
    """``random`` (norm-matched directions) or ``shuffled`` (pair labels flipped at random)."""
    multiplier: float
    answer_logprobs: Float32[np.ndarray, "draw question order letter"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherBehavior:
    """Another behaviour's held-out questions under this behaviour's vector."""

    behavior: str
    multipliers: tuple[float, ...]
    answer_logprobs: Float32[np.ndarray, "multiplier question order letter"]
    clusters: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEndedAnswer:
    """One greedy continuation."""

    prompt: str
    multiplier: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSummary:
    """What a report says of the vector that was added."""

    layer: int
    norm: float
    num_pairs: int
    mean_residual_norm: float
    """Of the residuals the vector was computed from: what the norm is measured against."""
    digest: str
    normalisation: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurements:
    """Everything measured for one spec on one model.

    The letter axis is (A, B); the order axis is (matching answer is A, matching
    answer is B).  NaN is "not scored", and ``unscored`` says why.
    """

    behavior: str
    spec_digest: str
    scoring: str
    """``both_orders`` or ``paper`` (one order per question, the other NaN)."""
    model: ModelCard
    vector: VectorSummary
    multipliers: tuple[float, ...]
    """Ascending, 0 among them."""
    questions: tuple[str, ...]
    """Digest of each held-out question, the row's name."""
    clusters: tuple[str | None, ...]
    answer_logprobs: Float32[np.ndarray, "multiplier question order letter"]
    capability: CapabilityMeasurements | None
    nulls: tuple[NullMeasurements, ...]
    others: tuple[OtherBehavior, ...]
    open_ended: tuple[OpenEndedAnswer, ...]
    unscored: tuple[str, ...]
    notes: tuple[str, ...]


def write_measurements(measurements: Measurements, path: Path) -> None:
    """Write ``measurements`` to ``path``, whole or not at all.

    JSON with a version and a checksum.  float32 numbers survive to the last bit;
    NaN is ``null``.
    """
    body = {
        "behavior": measurements.behavior,
        "spec_digest": measurements.spec_digest,
        "scoring": measurements.scoring,
        "model": {**asdict(measurements.model), "packages": dict(measurements.model.packages)},
        "vector": {key: _number(value) for key, value in asdict(measurements.vector).items()},
        "multipliers": list(measurements.multipliers),
        "questions": list(measurements.questions),
        "clusters": list(measurements.clusters),
        "answer_logprobs": _nested(measurements.answer_logprobs),
        "capability": _capability_to_json(measurements.capability),
        "nulls": [
            {
                "kind": null.kind,
                "multiplier": null.multiplier,
                "answer_logprobs": _nested(null.answer_logprobs),
            }
            for null in measurements.nulls
        ],
        "others": [
            {
                "behavior": other.behavior,
                "multipliers": list(other.multipliers),
                "answer_logprobs": _nested(other.answer_logprobs),
                "clusters": list(other.clusters),
            }
            for other in measurements.others
        ],
        "open_ended": [asdict(answer) for answer in measurements.open_ended],
        "unscored": list(measurements.unscored),
        "notes": list(measurements.notes),
    }
    document = {"format": FORMAT, "sha256": _checksum(body), **body}
    write_text(path, json.dumps(document, indent=None, allow_nan=False) + "\n")


def read_measurements(path: Path) -> Measurements:
    """Read a file that ``write_measurements`` wrote; anything else is refused.

    Raises
    ------
    MeasurementError
        When the file is missing, damaged or cut off, of another version, or when
        its parts disagree.  ``where`` names the file and the key.
    """
    document = _load(path)
    root = _Node(path, "", document)
    if document.get("format") != FORMAT:
        root.refuse(
            f"the format is {document.get('format')!r}, not {FORMAT!r}",
            key="format",
            remedy="measure again with this version of the harness",
        )
    body = {key: value for key, value in document.items() if key not in {"format", "sha256"}}
    if root.text("sha256") != _checksum(body):
        root.refuse("the checksum does not fit: the file was changed or damaged", key="sha256")
    root.only("format", "sha256", *_KEYS)
    return _Decoder(root).measurements()


_KEYS = (
    "behavior",
    "spec_digest",
    "scoring",
    "model",
    "vector",
    "multipliers",
    "questions",
    "clusters",
    "answer_logprobs",
    "capability",
    "nulls",
    "others",
    "open_ended",
    "unscored",
    "notes",
)
_REMEDY = "measure again, or take the file from where it was recorded"


def _checksum(body: dict[str, Any]) -> str:
    """Hash the content, whatever its layout in the file."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _number(value: Any) -> Any:
    """NaN as ``None``; everything else as it is."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _nested(array: Float32[np.ndarray, "..."]) -> list[Any]:
    """Nested lists with the shortest decimals that give the same float32 again."""
    flat: list[Any] = [_shortest(value) for value in array.reshape(-1)]
    for size in reversed(array.shape[1:]):
        # An empty axis leaves nothing to group, but the outer lists must still be there.
        flat = [flat[i : i + size] for i in range(0, len(flat), size)] if size else []
    return flat


def _shortest(value: np.float32) -> float | None:
    """Short and exact: most float32 numbers need 9 digits, not the 17 of a float64."""
    if np.isnan(value):
        return None
    short = float(str(value))
    return short if np.float32(short) == value else float(value)


def _capability_to_json(probe: CapabilityMeasurements | None) -> dict[str, Any] | None:
    if probe is None:
        return None
    return {
        "multipliers": list(probe.multipliers),
        "option_logprobs": _nested(probe.option_logprobs),
        "correct": [int(index) for index in probe.correct],
        "categories": list(probe.categories),
    }


def _load(path: Path) -> dict[str, Any]:
    """Parse a file as strict JSON: no NaN, no key twice, an object at the top."""

    def refuse_constant(name: str) -> NoReturn:
        message = f"{name} is not JSON"
        raise ValueError(message)

    def refuse_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) != len(items):
            message = "a key stands twice in one object"
            raise ValueError(message)
        return dict(items)

    def whole(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            message = f"a whole number has {len(digits)} digits"
            raise ValueError(message)
        return int(digits)

    try:
        document = json.loads(
            path.read_bytes().decode("utf-8"),
            parse_constant=refuse_constant,
            parse_int=whole,
            object_pairs_hook=refuse_twice,
        )
    except OSError as error:
        raise MeasurementError(
            f"the file cannot be read ({error.strerror})",
            where=str(path),
            remedy="check the path, and that the run that records the measurements has finished",
        ) from error
    except json.JSONDecodeError as error:
        raise MeasurementError(
            f"not whole JSON ({error.msg}): damaged, or cut off",
            where=f"{path}:{error.lineno}:{error.colno}",
            remedy=_REMEDY,
        ) from error
    except (ValueError, RecursionError) as error:
        raise MeasurementError(
            f"not a measurements file ({error})", where=str(path), remedy=_REMEDY
        ) from error
    if not isinstance(document, dict):
        raise MeasurementError(
            "not a measurements file (no object at the top)", where=str(path), remedy=_REMEDY
        )
    return document


def _all_numbers(values: Any) -> bool:
    """Nested lists with nothing in them but numbers and nulls."""
    if isinstance(values, list):
        return all(_all_numbers(value) for value in values)
    return values is None or (isinstance(values, int | float) and not isinstance(values, bool))


@dataclass(frozen=True, slots=True)
class _Node:
    """A JSON object of the file, and where it stands."""

    path: Path
    pointer: str
    value: dict[str, Any]

    def refuse(self, found: str, *, key: str, remedy: str = _REMEDY) -> NoReturn:
        raise MeasurementError(found, where=f"{self.path}: {self.pointer}/{key}", remedy=remedy)

    def only(self, *keys: str) -> None:
        """Exactly these keys."""
        for key in keys:
            if key not in self.value:
                self.refuse("the key is missing", key=key)
        for key in self.value:
            if key not in keys:
                self.refuse("the key is unknown", key=key)

    def get(self, key: str, kind: type | tuple[type, ...], words: str) -> Any:
        value = self.value.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(f"not {words}", key=key)
        return value

    def text(self, key: str) -> str:
        return str(self.get(key, str, "a text"))

    def whole(self, key: str) -> int:
        return int(self.get(key, int, "a whole number"))

    def real(self, key: str, *, nullable: bool = False) -> float:
        if nullable and self.value.get(key) is None:
            return math.nan
        value = float(self.get(key, (int, float), "a number"))
        if not math.isfinite(value):
            self.refuse("not a finite number", key=key)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.get(key, list, "a list")
        if not all(isinstance(value, str) for value in values):
            self.refuse("not a list of texts", key=key)
        return tuple(values)

    def texts_or_null(self, key: str, *, length: int) -> tuple[str | None, ...]:
        values = self.get(key, list, "a list")
        if not all(value is None or isinstance(value, str) for value in values):
            self.refuse("not a list of texts and nulls", key=key)
        if len(values) != length:
            self.refuse(f"{len(values)} entries where {length} belong", key=key)
        return tuple(values)

    def node(self, key: str) -> _Node:
        value = self.get(key, dict, "an object")
        return _Node(self.path, f"{self.pointer}/{key}", value)

    def nodes(self, key: str) -> list[_Node]:
        values = self.get(key, list, "a list")
        if not all(isinstance(value, dict) for value in values):
            self.refuse("not a list of objects", key=key)
        return [_Node(self.path, f"{self.pointer}/{key}/{i}", v) for i, v in enumerate(values)]

    def multipliers(self) -> tuple[float, ...]:
        """Ascending, 0 among them: without it nothing has a start."""
        values = self.get("multipliers", list, "a list")
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            self.refuse("not a list of numbers", key="multipliers")
        multipliers = tuple(float(value) for value in values)
        if not all(math.isfinite(value) for value in multipliers) or 0.0 not in multipliers:
            self.refuse("0 is not among the multipliers, or one is not finite", key="multipliers")
        if any(a >= b for a, b in pairwise(multipliers)):
            self.refuse("the multipliers are not in ascending order", key="multipliers")
        return multipliers

    def logprobs(
        self, key: str, shape: tuple[int | None, ...], axes: str
    ) -> Float32[np.ndarray, "..."]:
        """Read nested lists of log-probabilities; ``None`` in ``shape``: any length, but 0."""
        values = self.get(key, list, "a list")
        if not _all_numbers(values):
            self.refuse(f"not a ({axes}) array of numbers and nulls", key=key)
        try:
            array = np.array(values, dtype=np.float64)
        except ValueError:
            self.refuse(f"rows of different lengths in a ({axes}) array", key=key)
        fits = array.ndim == len(shape) and all(
            size == wanted if wanted is not None else size > 0
            for size, wanted in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted_shape = tuple("any" if size is None else size for size in shape)
            self.refuse(f"shape {array.shape} where ({axes}) = {wanted_shape} belongs", key=key)
        if np.isinf(array).any() or (array > _MAX_LOGPROB).any():
            self.refuse("a number is no log-probability", key=key)
        return array.astype(np.float32)


class _Decoder:
    """Builds ``Measurements`` from the file's root, checking that its parts agree."""

    def __init__(self, root: _Node) -> None:
        self._root = root

    def measurements(self) -> Measurements:
        root = self._root
        scoring = root.text("scoring")
        if scoring not in {"both_orders", "paper"}:
            root.refuse(f"{scoring!r} is not a way of scoring", key="scoring")
        multipliers = root.multipliers()
        questions = root.texts("questions")
        if len(set(questions)) != len(questions):
            root.refuse("a question stands twice", key="questions")
        shape = (len(multipliers), len(questions), 2, 2)
        measurements = Measurements(
            behavior=root.text("behavior"),
            spec_digest=root.text("spec_digest"),
            scoring=scoring,
            model=self._model(root.node("model")),
            vector=self._vector(root.node("vector")),
            multipliers=multipliers,
            questions=questions,
            clusters=root.texts_or_null("clusters", length=len(questions)),
            answer_logprobs=root.logprobs(
                "answer_logprobs", shape, "multiplier, question, order, letter"
            ),
            capability=self._capability(),
            nulls=tuple(self._null(node, len(questions)) for node in root.nodes("nulls")),
            others=tuple(self._other(node) for node in root.nodes("others")),
            open_ended=tuple(self._open_ended(node) for node in root.nodes("open_ended")),
            unscored=root.texts("unscored"),
            notes=root.texts("notes"),
        )
        self._check_reasons(measurements)
        return measurements

    def _check_reasons(self, measurements: Measurements) -> None:
        """Let a number be missing, but never without a reason."""
        missing = np.isnan(measurements.answer_logprobs).any(axis=-1)
        both = measurements.scoring == "both_orders"
        unscored = missing.any(axis=-1) if both else missing.all(axis=-1)
        if unscored.any() and not measurements.unscored:
            self._root.refuse(
                f"{int(unscored.any(axis=0).sum())} questions are not scored, and no reason given",
                key="unscored",
            )

    def _model(self, node: _Node) -> ModelCard:
        node.only(*ModelCard.__dataclass_fields__)
        packages = node.node("packages")
        return ModelCard(
            name=node.text("name"),
            architecture=node.text("architecture"),
            num_layers=node.whole("num_layers"),
            d_model=node.whole("d_model"),
            dtype=node.text("dtype"),
            device=node.text("device"),
            template=node.text("template"),
            weights_digest=node.text("weights_digest"),
            tokenizer_digest=node.text("tokenizer_digest"),
            attention=node.text("attention"),
            packages=tuple((key, packages.text(key)) for key in packages.value),
        )

    def _vector(self, node: _Node) -> VectorSummary:
        node.only(*VectorSummary.__dataclass_fields__)
        return VectorSummary(
            layer=node.whole("layer"),
            norm=node.real("norm", nullable=True),
            num_pairs=node.whole("num_pairs"),
            mean_residual_norm=node.real("mean_residual_norm", nullable=True),
            digest=node.text("digest"),
            normalisation=node.text("normalisation"),
        )

    def _capability(self) -> CapabilityMeasurements | None:
        root = self._root
        if root.value["capability"] is None:
            return None
        node = root.node("capability")
        node.only("multipliers", "option_logprobs", "correct", "categories")
        multipliers = node.multipliers()
        correct = node.get("correct", list, "a list")
        shape = (len(multipliers), len(correct), None)
        logprobs = node.logprobs("option_logprobs", shape, "multiplier, item, option")
        num_options = logprobs.shape[-1]
        if not all(type(index) is int and 0 <= index < num_options for index in correct):
            node.refuse(f"not a list of options, 0 to {num_options - 1}", key="correct")
        return CapabilityMeasurements(
            multipliers=multipliers,
            option_logprobs=logprobs,
            correct=np.array(correct, dtype=np.int64),
            categories=node.texts_or_null("categories", length=len(correct)),
        )

    def _null(self, node: _Node, num_questions: int) -> NullMeasurements:
        node.only("kind", "multiplier", "answer_logprobs")
        kind = node.text("kind")
        if kind not in {"random", "shuffled"}:
            node.refuse(f"{kind!r} is not a kind of null vector", key="kind")
        shape = (None, num_questions, 2, 2)
        return NullMeasurements(
            kind=kind,
            multiplier=node.real("multiplier"),
            answer_logprobs=node.logprobs(
                "answer_logprobs", shape, "draw, question, order, letter"
            ),
        )

    def _other(self, node: _Node) -> OtherBehavior:
        node.only("behavior", "multipliers", "answer_logprobs", "clusters")
        multipliers = node.multipliers()
        clusters = node.get("clusters", list, "a list")
        shape = (len(multipliers), len(clusters), 2, 2)
        return OtherBehavior(
            behavior=node.text("behavior"),
            multipliers=multipliers,
            answer_logprobs=node.logprobs(
                "answer_logprobs", shape, "multiplier, question, order, letter"
            ),
            clusters=node.texts_or_null("clusters", length=len(clusters)),
        )

    def _open_ended(self, node: _Node) -> OpenEndedAnswer:
        node.only("prompt", "multiplier", "text")
        return OpenEndedAnswer(
            prompt=node.text("prompt"), multiplier=node.real("multiplier"), text=node.text("text")
        )
