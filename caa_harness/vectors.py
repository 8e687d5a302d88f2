"""Steering vectors: residual streams of contrastive pairs in, mean differences out.

An engine reads the residual stream at the answer letter of both halves of every
pair; the mean of matching minus not matching is the vector.  The residuals are
summed as they come and never kept.  Vectors travel in safetensors files that
say where they come from.  Nothing here knows what a vector does to a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from caa_harness import __version__
from caa_harness.atomic import write_bytes
from caa_harness.errors import VectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from jaxtyping import Float32, Float64, Int64

    from caa_harness.engines import Engine, ModelCard, ResidualBatch
    from caa_harness.prompts import Prompt, PromptWriter
    from caa_harness.spec import BehaviorSpec, ContrastivePair, HeldOutQuestion

Orders = Literal["both", "paper"]
Normalisation = Literal["raw", "caa-mean-norm"]

FORMAT = "caa-steering-vector/1"
SITE = "block_output"
TOKEN_RULE = "answer letter"  # noqa: S105  (a position, not a secret)
LAYER_NUMBERING = "from 0"

_RANDOM_STREAM = 1
_SHUFFLE_STREAM = 2
_PROVENANCE_KEYS = frozenset(
    {
        "model",
        "architecture",
        "num_layers",
        "d_model",
        "dtype",
        "device",
        "attention",
        "packages",
        "weights_digest",
        "tokenizer_digest",
        "template",
        "spec_digest",
        "site",
        "layer_numbering",
        "token_rule",
        "letter_balance",
        "harness_version",
    }
)
_OWN_KEYS = frozenset({"format", "behavior", "num_pairs", "normalisation", "orders"})
_NORM_KEY = "mean_residual_norm."
_TENSOR_KEY = "layer."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SteeringVector:
    """What an intervention adds after one decoder block, and where it comes from."""

    behavior: str
    layer: int
    """Decoder block, counted from 0, whose output it was read from."""
    direction: Float32[np.ndarray, " d_model"]
    num_pairs: int
    mean_residual_norm: float
    """Mean norm of the residuals it was computed from: what its own norm is measured against."""
    normalisation: Normalisation
    orders: Orders
    provenance: Mapping[str, str]
    """Model card, spec digest, template, position rule, letter balance, harness version."""

    @property
    def norm(self) -> float:
        """Euclidean length, in the model's own units."""
        return float(np.linalg.norm(self.direction.astype(np.float64)))

    @property
    def digest(self) -> str:
        """SHA-256 of the layer and the numbers that are added."""
        content = np.ascontiguousarray(self.direction, dtype="<f4").tobytes()
        return hashlib.sha256(f"{self.layer}:".encode() + content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VectorSet:
    """The vectors of one behaviour at some layers, and label-shuffled ones at one of them."""

    vectors: Mapping[int, SteeringVector]
    shuffled: Float32[np.ndarray, "draw d_model"]
    """Mean differences after a coin decided, pair by pair, which half is called matching."""
    shuffled_layer: int | None

    def at(self, layer: int) -> SteeringVector:
        """Return the vector of ``layer``."""
        if layer not in self.vectors:
            raise VectorError(
                f"no vector for layer {layer}",
                where="vector set",
                remedy=f"ask for one of the layers {sorted(self.vectors)}",
            )
        return self.vectors[layer]


def compute_vectors(
    engine: Engine,
    spec: BehaviorSpec,
    layers: Sequence[int],
    *,
    num_shuffles: int = 0,
    shuffled_layer: int | None = None,
    seed: int,
    orders: Orders = "both",
    progress: Callable[[int], None] | None = None,
) -> VectorSet:
    """Mean difference between the halves of the spec's pairs, at every layer asked for.

    One pass over the pairs serves all layers and all shuffles.  Sums are kept in
    float64: ``layers x d_model`` numbers for the vectors and ``num_shuffles x
    d_model`` for the shuffles, whatever the number of pairs.

    Parameters
    ----------
    engine : Engine
        Reads the residual streams.
    spec : BehaviorSpec
        Whose pairs are read.
    layers : sequence of int
        Decoder blocks, counted from 0.
    num_shuffles : int
        Label-shuffled vectors to make from the same residuals, for the null claim.
    shuffled_layer : int, optional
        Where; the only layer unless said otherwise.
    seed : int
        Of the coins of the shuffles.  The vectors do not depend on it.
    orders : {"both", "paper"}
        ``both`` asks every question twice, with the matching answer as (A) and as
        (B), so that whatever only tells the letters apart cancels exactly.
        ``paper`` asks once, as published; a question without a published order
        gets the one that a hash of its text picks.
    progress : callable, optional
        Handed to the engine.

    Returns
    -------
    VectorSet
        In the model's own units: a multiplier of 1 adds one average difference.

    Raises
    ------
    EngineError
        When a layer is outside the model, or a residual is not finite.
    VectorError
        When the engine leaves a question out or answers it twice, when a sum is
        not finite, or when a difference is exactly zero.

    References
    ----------
    Rimsky et al. 2023, "Steering Llama 2 via Contrastive Activation Addition",
    section 3, https://arxiv.org/abs/2312.06681
    """
    assert layers, "no layer to compute a vector for"
    if num_shuffles and shuffled_layer is None:
        assert len(layers) == 1, "several layers: say which one gets the shuffled vectors"
        shuffled_layer = layers[0]
    prompts, pair_of_row, matching_letter = _pair_prompts(engine.writer, spec.pairs, orders)
    sums = _Sums(
        layers=tuple(layers),
        d_model=engine.card.d_model,
        pair_of_row=pair_of_row,
        matching_letter=matching_letter,
        signs=_signs(len(spec.pairs), num_shuffles, seed),
        shuffled_layer=shuffled_layer,
    )
    for batch in engine.answer_residuals(prompts, layers, progress=progress):
        sums.add(batch)
    sums.check_complete(spec)

    provenance = MappingProxyType(
        _provenance(engine.card, spec, letter_balance=float(np.mean(matching_letter == 0)))
    )
    vectors = {
        layer: SteeringVector(
            behavior=spec.behavior,
            layer=layer,
            direction=direction.astype(np.float32),
            num_pairs=len(spec.pairs),
            mean_residual_norm=float(mean_norm),
            normalisation="raw",
            orders=orders,
            provenance=provenance,
        )
        for layer, direction, mean_norm in zip(
            layers, sums.mean_differences(), sums.mean_norms(), strict=True
        )
    }
    return VectorSet(
        vectors=MappingProxyType(vectors),
        shuffled=sums.mean_shuffled().astype(np.float32),
        shuffled_layer=shuffled_layer,
    )


def random_directions(
    like: SteeringVector, num: int, seed: int
) -> Float32[np.ndarray, "draw d_model"]:
    """Draw directions evenly from the sphere, each as long as ``like``."""
    generator = np.random.default_rng([_RANDOM_STREAM, seed])
    drawn = generator.standard_normal((num, like.direction.shape[0]))
    drawn *= like.norm / np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn.astype(np.float32)


def normalise_across_behaviors(vectors: Iterable[SteeringVector]) -> tuple[SteeringVector, ...]:
    """Give all behaviours' vectors of a layer the mean of their norms, as the reference does.

    Layers keep different norms.  A weak vector is amplified, its noise included,
    and adding a behaviour changes every vector: that is the published method.

    Raises
    ------
    VectorError
        When a vector is normalised already, a behaviour comes twice at a layer,
        or the vectors are of different models.
    """
    vectors = tuple(vectors)
    norms: dict[int, dict[str, float]] = {}
    for vector in vectors:
        where = f"{vector.behavior}, layer {vector.layer}"
        at_layer = norms.setdefault(vector.layer, {})
        if vector.normalisation != "raw":
            raise VectorError(
                f"the vector is normalised already ({vector.normalisation})",
                where=where,
                remedy="normalise the raw vectors, once",
            )
        if vector.behavior in at_layer:
            raise VectorError(
                "two vectors of one behaviour at one layer",
                where=where,
                remedy="pass one vector for each behaviour and layer",
            )
        if vector.provenance.get("weights_digest") != vectors[0].provenance.get("weights_digest"):
            raise VectorError(
                "the vectors are of different models",
                where=where,
                remedy="normalise the vectors of each model by themselves",
            )
        at_layer[vector.behavior] = vector.norm
    means = {layer: sum(of.values()) / len(of) for layer, of in norms.items()}
    return tuple(
        replace(
            vector,
            direction=_scaled(vector.direction, means[vector.layer] / vector.norm),
            normalisation="caa-mean-norm",
        )
        for vector in vectors
    )


def save_vectors(vectors: VectorSet | Iterable[SteeringVector], path: Path) -> None:
    """Write one behaviour's vectors to a safetensors file, whole or not at all.

    Tensors are named ``layer.<block>``; the metadata say everything else.
    """
    chosen = tuple(vectors.vectors.values() if isinstance(vectors, VectorSet) else vectors)
    assert chosen, "no vector to save"
    first = chosen[0]
    shared = (first.behavior, first.num_pairs, first.normalisation, first.orders)
    for vector in chosen:
        own = (vector.behavior, vector.num_pairs, vector.normalisation, vector.orders)
        assert own == shared, "one file holds one behaviour"
        assert vector.provenance == first.provenance, "one file holds one computation"
    metadata = {
        "format": FORMAT,
        "behavior": first.behavior,
        "num_pairs": str(first.num_pairs),
        "normalisation": first.normalisation,
        "orders": first.orders,
        **{f"{_NORM_KEY}{v.layer}": repr(v.mean_residual_norm) for v in chosen},
        **first.provenance,
    }
    tensors = {f"{_TENSOR_KEY}{v.layer}": np.ascontiguousarray(v.direction) for v in chosen}
    write_bytes(path, save(tensors, metadata=metadata))


def load_vectors(path: Path) -> VectorSet:
    """Read a file that ``save_vectors`` wrote; anything else is refused.

    Raises
    ------
    VectorError
        When the file is missing, damaged or foreign, when its metadata lack
        something, say something odd or contradict its tensors, or when a number
        is not finite.
    """
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = dict(stream.metadata() or {})
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise VectorError(
            f"not a readable safetensors file ({error})",
            where=str(path),
            remedy="compute the vector again; only files written by this harness can be read",
        ) from error
    return _decode(path, metadata, tensors)


class _Sums:
    """Running sums over pairs; everything that has to be remembered of the residuals."""

    def __init__(
        self,
        *,
        layers: tuple[int, ...],
        d_model: int,
        pair_of_row: Int64[np.ndarray, " row"],
        matching_letter: Int64[np.ndarray, " row"],
        signs: Float64[np.ndarray, "pair draw"],
        shuffled_layer: int | None,
    ) -> None:
        self._pair_of_row = pair_of_row
        self._matching_letter = matching_letter
        self._signs = signs
        self._layers = layers
        self._shuffled = None if shuffled_layer is None else layers.index(shuffled_layer)
        self._times_seen = np.zeros(len(pair_of_row), dtype=np.int64)
        self._difference = np.zeros((len(layers), d_model))
        self._norm = np.zeros(len(layers))
        self._shuffled_difference = np.zeros((signs.shape[1], d_model))

    def add(self, batch: ResidualBatch) -> None:
        """Add the rows of one batch, in whatever order the engine computed them."""
        rows = np.asarray(batch.rows)
        wanted = (len(rows), 2, *self._difference.shape)
        if batch.residuals.shape != wanted:
            raise VectorError(
                f"the engine answered with shape {batch.residuals.shape}, not {wanted}",
                where="answer residuals",
                remedy="check the engine: (row, letter, layer, d_model) is what the door says",
            )
        np.add.at(self._times_seen, rows, 1)
        # Row by row: a batch of float64 copies would be the largest thing in memory.
        for row, residual in zip(rows, batch.residuals, strict=True):
            letter = self._matching_letter[row]
            matching = residual[letter].astype(np.float64)
            not_matching = residual[1 - letter].astype(np.float64)
            difference = matching - not_matching
            self._difference += difference
            self._norm += np.linalg.norm(matching, axis=1) + np.linalg.norm(not_matching, axis=1)
            if self._shuffled is not None and len(self._shuffled_difference):
                signs = self._signs[self._pair_of_row[row]]
                self._shuffled_difference += signs[:, None] * difference[self._shuffled]

    def check_complete(self, spec: BehaviorSpec) -> None:
        """Every row once, every sum finite, no vector of zero length."""
        wrong = np.flatnonzero(self._times_seen != 1)
        if len(wrong):
            pair = int(self._pair_of_row[wrong[0]])
            raise VectorError(
                f"the engine read {len(wrong)} of {len(self._times_seen)} pair prompts not once"
                f" but {int(self._times_seen[wrong[0]])} times, pair {pair} among them",
                where=spec.behavior,
                remedy="check the engine: each prompt must come back exactly once",
            )
        for layer, difference in zip(self._layers, self._difference, strict=True):
            if not np.isfinite(difference).all():
                raise VectorError(
                    "residuals are not finite",
                    where=f"{spec.behavior}, layer {layer}",
                    remedy="load the model in float32 or bfloat16, and check its weights for NaN",
                )
            if not difference.any():
                raise VectorError(
                    "the two halves of the pairs have equal residuals: the vector is zero",
                    where=f"{spec.behavior}, layer {layer}",
                    remedy="choose a later layer, or pairs whose answers the model tells apart",
                )

    def mean_differences(self) -> Float64[np.ndarray, "layer d_model"]:
        """Divide by the number of rows: the vectors."""
        return self._difference / len(self._times_seen)

    def mean_norms(self) -> Float64[np.ndarray, " layer"]:
        """Take the mean norm over the residuals of both halves."""
        return self._norm / (2 * len(self._times_seen))

    def mean_shuffled(self) -> Float64[np.ndarray, "draw d_model"]:
        """Divide likewise: the label-shuffled vectors."""
        return self._shuffled_difference / len(self._times_seen)


def _pair_prompts(
    writer: PromptWriter, pairs: Sequence[ContrastivePair], orders: Orders
) -> tuple[list[Prompt], Int64[np.ndarray, " row"], Int64[np.ndarray, " row"]]:
    """Write the prompts; beside each, its pair and which letter (0: A) matches."""
    prompts: list[Prompt] = []
    pair_of_row: list[int] = []
    matching_letter: list[int] = []
    for index, pair in enumerate(pairs):
        for letter in (0, 1) if orders == "both" else (paper_order(pair),):
            if orders == "paper" and pair.as_published is not None:
                prompts.append(writer.verbatim(pair.as_published.question))
            else:
                options = (pair.matching, pair.not_matching)
                prompts.append(
                    writer.question(pair.question, options if letter == 0 else options[::-1])
                )
            pair_of_row.append(index)
            matching_letter.append(letter)
    return prompts, np.array(pair_of_row, np.int64), np.array(matching_letter, np.int64)


def paper_order(row: ContrastivePair | HeldOutQuestion) -> Literal[0, 1]:
    """Which order a row is asked in when it is asked once: 0 where (A) matches, else 1.

    As published; without a published order a hash of the texts decides, so that
    neither the order of rows nor a random number shows.
    """
    if row.as_published is not None:
        return 0 if row.as_published.matching_letter == "A" else 1
    text = f"{row.question}\0{row.matching}\0{row.not_matching}"
    return 0 if hashlib.sha256(text.encode()).digest()[0] % 2 == 0 else 1


def _signs(num_pairs: int, num_shuffles: int, seed: int) -> Float64[np.ndarray, "pair draw"]:
    """Draw a coin for each pair and shuffle: both orders of a pair share it."""
    generator = np.random.default_rng([_SHUFFLE_STREAM, seed])
    return generator.choice((-1.0, 1.0), size=(num_pairs, num_shuffles))


def _scaled(
    direction: Float32[np.ndarray, " d_model"], factor: float
) -> Float32[np.ndarray, " d_model"]:
    """Scale in float64, so that half precision's lost digits (reference code) do not recur."""
    return (direction.astype(np.float64) * factor).astype(np.float32)


def _provenance(card: ModelCard, spec: BehaviorSpec, *, letter_balance: float) -> dict[str, str]:
    """Say, in strings, what a vector was computed from and how."""
    return {
        "model": card.name,
        **{
            key: str(value)
            for key, value in asdict(card).items()
            if key not in {"name", "packages"}
        },
        "packages": json.dumps(dict(card.packages), sort_keys=True),
        "spec_digest": spec.digest,
        "site": SITE,
        "layer_numbering": LAYER_NUMBERING,
        "token_rule": TOKEN_RULE,
        "letter_balance": repr(letter_balance),
        "harness_version": __version__,
    }


def _decode(
    path: Path, metadata: dict[str, str], tensors: dict[str, Float32[np.ndarray, "..."]]
) -> VectorSet:
    """Turn a file's strings and tensors into vectors, or say what is wrong with them."""
    if metadata.get("format") != FORMAT:
        raise _foreign(path, f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
    layers = [_layer_number(path, name) for name in tensors]
    norm_keys = {f"{_NORM_KEY}{layer}" for layer in layers}
    wanted = _OWN_KEYS | _PROVENANCE_KEYS | norm_keys
    if missing := sorted(wanted - metadata.keys()):
        raise _foreign(path, f"the metadata lack {', '.join(missing)}")
    if unknown := sorted(metadata.keys() - wanted):
        raise _foreign(path, f"the metadata hold unknown {', '.join(unknown)}")
    if not layers:
        raise _foreign(path, "the file holds no vector")
    for key, allowed in {
        "site": (SITE,),
        "layer_numbering": (LAYER_NUMBERING,),
        "token_rule": (TOKEN_RULE,),
        "normalisation": ("raw", "caa-mean-norm"),
        "orders": ("both", "paper"),
    }.items():
        if metadata[key] not in allowed:
            raise _foreign(path, f"{key} is {metadata[key]!r}, not {' or '.join(allowed)}")
    num_layers = _count(path, metadata, "num_layers")
    d_model = _count(path, metadata, "d_model")
    for layer in layers:
        _check_direction(path, layer, tensors[f"{_TENSOR_KEY}{layer}"], d_model)
        if layer >= num_layers:
            raise _foreign(path, f"layer {layer} is outside the model of {num_layers} layers")
    provenance = MappingProxyType({key: metadata[key] for key in sorted(_PROVENANCE_KEYS)})
    vectors = {
        layer: SteeringVector(
            behavior=metadata["behavior"],
            layer=layer,
            direction=tensors[f"{_TENSOR_KEY}{layer}"],
            num_pairs=_count(path, metadata, "num_pairs"),
            mean_residual_norm=_length(path, metadata, f"{_NORM_KEY}{layer}"),
            normalisation="raw" if metadata["normalisation"] == "raw" else "caa-mean-norm",
            orders="both" if metadata["orders"] == "both" else "paper",
            provenance=provenance,
        )
        for layer in sorted(layers)
    }
    return VectorSet(
        vectors=MappingProxyType(vectors),
        shuffled=np.zeros((0, d_model), dtype=np.float32),
        shuffled_layer=None,
    )


def _foreign(path: Path, found: str) -> VectorError:
    """Make the error for a file that this harness did not write."""
    return VectorError(
        found,
        where=str(path),
        remedy="compute the vector again; only files written by this harness can be read",
    )


def _layer_number(path: Path, name: str) -> int:
    """Read ``13`` from ``layer.13``."""
    number = name.removeprefix(_TENSOR_KEY)
    if not name.startswith(_TENSOR_KEY) or not number.isascii() or str(_whole(number)) != number:
        raise _foreign(path, f"a tensor is called {name!r}, not {_TENSOR_KEY}<block>")
    return int(number)


def _whole(text: str) -> int | None:
    """Read a count written in digits only."""
    return int(text) if text.isdigit() else None


def _count(path: Path, metadata: Mapping[str, str], key: str) -> int:
    """Read a positive whole number of the metadata."""
    number = _whole(metadata[key])
    if not number:
        raise _foreign(path, f"{key} is {metadata[key]!r}, not a positive whole number")
    return number


def _length(path: Path, metadata: Mapping[str, str], key: str) -> float:
    """Read a length of the metadata."""
    try:
        number = float(metadata[key])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise _foreign(path, f"{key} is {metadata[key]!r}, not a length")
    return number


def _check_direction(
    path: Path, layer: int, direction: Float32[np.ndarray, "..."], d_model: int
) -> None:
    """Refuse what cannot be added to this model's residual stream."""
    if direction.dtype != np.float32:
        raise _foreign(path, f"layer {layer} holds {direction.dtype} numbers, not float32")
    if direction.shape != (d_model,):
        raise _foreign(path, f"layer {layer} has shape {direction.shape}, not ({d_model},)")
    if not np.isfinite(direction).all():
        raise _foreign(path, f"layer {layer} holds numbers that are not finite")
