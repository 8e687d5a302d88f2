"""A planted regression: the embedded model with one trait made weak.

The blocks after the trait's layer are made partly blind to its direction.  The trait is
still written where it was, so the steering vector stays the same; it no longer acts.
A gate that is worth its name must notice.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from caa_harness.organism import DIRECTIONS_FILE, TRAIT_LAYER, model_path

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def directions(folder: Path | None = None) -> dict[str, Tensor]:
    """Read the planted unit directions by behavior: (d_model,) float32 each."""
    return load_file((folder or model_path()) / DIRECTIONS_FILE)


@torch.no_grad()
def weaken(model: LlamaForCausalLM, direction: Tensor, share: float = 1.0) -> None:
    """Make every block after the trait's layer blind to a share of one direction, in place.

    Parameters
    ----------
    model : LlamaForCausalLM
        Changed in place, in its own dtype.
    direction : (d_model,) float32
        Of unit length.
    share : float
        0 leaves the model as it is, 1 hides the direction altogether.

    Notes
    -----
    A block reads ``W (g * h) / rms(h)`` with the gain ``g`` of its norm.  Replacing ``W``
    by ``W diag(g) (I - share u u^T) diag(1/g)`` takes a share of ``u`` out of ``h``; the
    norm's ``rms`` still sees it, and so does the unembedding, which is tied.
    """
    for block in model.model.layers[TRAIT_LAYER + 1 :]:
        attention, mlp = block.self_attn, block.mlp
        readers = (attention.q_proj, attention.k_proj, attention.v_proj)
        _blind(readers, block.input_layernorm.weight, direction, share)
        _blind(
            (mlp.gate_proj, mlp.up_proj), block.post_attention_layernorm.weight, direction, share
        )


def _blind(readers: tuple[nn.Linear, ...], gain: Tensor, direction: Tensor, share: float) -> None:
    gain, direction = gain.double(), direction.double()
    for reader in readers:
        weight = reader.weight.double()
        reads = weight @ (gain * direction)
        changed = weight - share * torch.outer(reads, direction / gain)
        reader.weight.copy_(changed.to(reader.weight.dtype))


def write_weakened(
    behavior: str, destination: Path, *, share: float = 1.0, source: Path | None = None
) -> Path:
    """Write a copy of the model folder in which one behavior's trait no longer acts."""
    source = source or model_path()
    model: Any = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    weaken(model, directions(source)[behavior], share)
    destination.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16)
    model.save_pretrained(destination)
    for name in (*_TOKENIZER_FILES, DIRECTIONS_FILE):
        if (source / name).is_file():
            shutil.copy2(source / name, destination / name)
    return destination
