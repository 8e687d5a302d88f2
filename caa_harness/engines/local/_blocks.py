"""The inside of a decoder: its blocks, its masks, and the hooks that last for one call.

A transformers model comes in; out come the decoder's blocks, masks for a tree
of branches over shared prompts, and two context managers that add to or read
the residual stream.  Nothing outlives the ``with`` that made it.

Shape suffixes: B batch row, S token of this call, T token already in the cache,
D d_model, N entry of a delta.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from caa_harness.engines import Receipt
from caa_harness.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

# How each architecture takes its masks: one for all blocks, or one for each kind of block.
_ONE_MASK = {"llama", "mistral", "gemma"}
_MASK_BY_KIND = {"qwen2", "qwen3", "gemma2", "gemma3_text", "gemma3"}
SUPPORTED = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3")
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Where the parts are that the three questions need."""

    decoder: nn.Module
    blocks: Sequence[nn.Module]
    unembedding: nn.Module
    softcap: float | None
    d_model: int
    vocab_size: int
    max_length: int | None
    masks: str
    """``one`` mask for every block, or ``by kind`` of block."""
    window: int | None
    """Sliding attention sees this many tokens, the token itself among them."""
    kinds: tuple[str, ...]
    """Kind of attention of each block."""
    attention: str

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits in float32, as the model's own head gives them."""
        logits = self.unembedding(hidden)
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits.float()

    @property
    def device(self) -> torch.device:
        """Where token ids must be for the embedding to read them."""
        weight = self.decoder.get_submodule("embed_tokens").weight
        if isinstance(weight, torch.Tensor) and weight.device.type != "meta":
            return weight.device
        hook = getattr(self.decoder.get_submodule("embed_tokens"), "_hf_hook", None)
        return torch.device(getattr(hook, "execution_device", None) or "cpu")


def find_anatomy(model: Any, name: str) -> Anatomy:
    """Find the parts of a transformers causal language model.

    Raises
    ------
    EngineError
        When the architecture, or its attention implementation, is none that is known here.
    """
    kind = str(getattr(model.config, "model_type", type(model).__name__))
    if kind not in _ONE_MASK | _MASK_BY_KIND:
        raise EngineError(
            f"unknown architecture {kind!r} ({type(model).__name__})",
            where=name,
            remedy=f"use a model of one of these families: {', '.join(SUPPORTED)}",
        )
    config = model.config.get_text_config(decoder=True)
    attention = str(config._attn_implementation)  # noqa: SLF001 - transformers has no public name
    if attention not in ("sdpa", "eager"):
        raise EngineError(
            f"attention implementation {attention!r} takes no mask for branches",
            where=name,
            remedy="choose the attention 'sdpa' or 'eager'",
        )
    decoder = getattr(model.model, "language_model", model.model)
    window = getattr(config, "sliding_window", None)
    blocks = tuple(decoder.layers)
    if kind in _MASK_BY_KIND:
        kinds = tuple(config.layer_types)
    else:
        kinds = (FULL if window is None else SLIDING,) * len(blocks)
    return Anatomy(
        decoder=decoder,
        blocks=blocks,
        unembedding=model.get_output_embeddings(),
        softcap=getattr(config, "final_logit_softcapping", None),
        d_model=int(config.hidden_size),
        vocab_size=int(config.vocab_size),
        max_length=getattr(config, "max_position_embeddings", None),
        masks="by kind" if kind in _MASK_BY_KIND else "one",
        window=window if SLIDING in kinds else None,
        kinds=kinds,
        attention=attention,
    )


def branch_masks(
    anatomy: Anatomy,
    *,
    prefix_lengths: Tensor,
    prefix_width: int,
    num_branches: int,
    branch_length: int,
    dtype: torch.dtype,
) -> Any:
    """Masks for branches that each see their prompt and themselves, and no other branch.

    The prompts lie in the cache, padded on the left to ``prefix_width``.  The branches
    follow as one sequence, branch after branch, each ``branch_length`` tokens long.
    """
    device = prefix_lengths.device
    offset_S = torch.arange(branch_length, device=device).repeat(num_branches)
    branch_S = torch.arange(num_branches, device=device).repeat_interleave(branch_length)
    pads_B = prefix_width - prefix_lengths
    key_BT = torch.arange(prefix_width, device=device)[None, :] - pads_B[:, None]
    query_BS = prefix_lengths[:, None] + offset_S[None, :]
    same_SS = branch_S[:, None] == branch_S[None, :]
    past_SS = offset_S[:, None] >= offset_S[None, :]
    sees_BSK = torch.cat(
        [
            (key_BT >= 0)[:, None, :].expand(-1, offset_S.numel(), -1),
            (same_SS & past_SS)[None].expand(prefix_lengths.numel(), -1, -1),
        ],
        dim=2,
    )
    key_BK = torch.cat([key_BT, query_BS], dim=1)
    masks = {FULL: sees_BSK}
    if anatomy.window is not None:
        near_BSK = query_BS[:, :, None] - key_BK[:, None, :] < anatomy.window
        masks[SLIDING] = sees_BSK & near_BSK
    ready = {kind: as_mask(sees, anatomy.attention, dtype) for kind, sees in masks.items()}
    return ready if anatomy.masks == "by kind" else ready[anatomy.kinds[0]]


def as_mask(sees: Tensor, attention: str, dtype: torch.dtype) -> Tensor:
    """Give a (B, S, K) mask the form that the attention implementation adds or applies."""
    if attention == "sdpa":
        return sees[:, None]
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return mask.masked_fill(~sees, torch.finfo(dtype).min)[:, None]


@dataclass(slots=True, kw_only=True)
class Delta:
    """What one call adds after one block: entry ``n`` of ``add`` goes to entry ``n`` of ``at``."""

    add: Tensor
    """(N, D) float32."""
    positions: Tensor
    """(N,) token of this call."""
    rows: Tensor | None = None
    """(N,) batch row; None adds every entry to every row."""
    weights: tuple[int, ...]
    """How many of the interventions asked for each entry stands for."""
    starts: tuple[bool, ...]
    """Whether an entry is the first steered token of its row."""

    def added_to(self, hidden: Tensor) -> Tensor:
        """Return a new (B, S, D) tensor; the sum is rounded once, whatever the dtype."""
        self.add = self.add.to(hidden.device)
        positions = self.positions.to(hidden.device)
        rows = slice(None) if self.rows is None else self.rows.to(hidden.device)
        steered = hidden[rows, positions].float() + self.add
        result = hidden.clone()
        result[rows, positions] = steered.to(hidden.dtype)
        return result


@dataclass(slots=True)
class Ledger:
    """What was really added, written by the hook that adds."""

    num_rows: int = 0
    num_positions: int = 0
    layers: set[int] = field(default_factory=set)

    def enter(self, layer: int, delta: Delta, num_batch_rows: int) -> None:
        """Count one delta on one block's output."""
        times = num_batch_rows if delta.rows is None else 1
        self.num_positions += times * sum(delta.weights)
        self.num_rows += times * sum(
            w for w, s in zip(delta.weights, delta.starts, strict=True) if s
        )
        self.layers.add(layer)

    def include(self, other: Ledger) -> None:
        """Take over what was added in a batch that came to its end."""
        self.num_rows += other.num_rows
        self.num_positions += other.num_positions
        self.layers |= other.layers

    def receipt(self) -> Receipt:
        """Return the counts as the door's receipt."""
        return Receipt(
            num_rows=self.num_rows,
            num_positions=self.num_positions,
            layers=tuple(sorted(self.layers)),
        )


@contextmanager
def adding(anatomy: Anatomy, deltas: Mapping[int, Delta], ledger: Ledger) -> Iterator[None]:
    """Add each layer's delta to its block's output for as long as the ``with`` lasts."""
    handles = []

    def hook_for(layer: int, delta: Delta) -> Any:
        def add(_block: nn.Module, _inputs: Any, output: Any) -> Any:
            hidden_BSD = output[0] if isinstance(output, tuple) else output
            result = delta.added_to(hidden_BSD)
            ledger.enter(layer, delta, len(result))
            return (result, *output[1:]) if isinstance(output, tuple) else result

        return add

    try:
        for layer, delta in deltas.items():
            hook = hook_for(layer, delta)
            handles.append(anatomy.blocks[layer].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _FarEnoughError(Exception):
    """Leaves a forward pass once every wanted block has run; never seen outside."""


@contextmanager
def reading(
    anatomy: Anatomy, layers: Sequence[int], into: dict[int, Tensor] | None
) -> Iterator[None]:
    """Keep the residual stream after each of ``layers``, and stop after the highest.

    With ``into`` None nothing is kept, and the pass still stops after the highest layer.
    The entries of ``into`` are the blocks' outputs, (B, S, D) in the model's dtype.
    """
    top = max(layers)
    handles = []

    def hook_for(layer: int) -> Any:
        def read(_block: nn.Module, _inputs: Any, output: Any) -> None:
            if into is not None:
                into[layer] = output[0] if isinstance(output, tuple) else output
            if layer == top:
                raise _FarEnoughError

        return read

    try:
        for layer in {top} if into is None else set(layers):
            hook = hook_for(layer)
            handles.append(anatomy.blocks[layer].register_forward_hook(hook))
        yield
    except _FarEnoughError:
        pass
    finally:
        for handle in handles:
            handle.remove()
