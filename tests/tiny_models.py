"""Random models of a few thousand weights, one of each family, and engines made from them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import transformers
from small_tokenizers import chatml_kind, gemma_kind, llama_2_kind, mistral_kind

from caa_harness.engines.local import LocalEngine

D_MODEL = 32
NUM_LAYERS = 4
WINDOW = 8
"""Sliding attention sees fewer tokens than every prompt has, so that a wrong window shows."""

ALTERNATING = ["sliding_attention", "full_attention"] * (NUM_LAYERS // 2)
SHAPE = {
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SOFTCAPS = {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 20.0}

# Family: configuration class, what it needs besides the shape, a tokenizer of its kind.
FAMILIES = {
    "llama": ("Llama", {}, llama_2_kind),
    "mistral": ("Mistral", {"sliding_window": WINDOW}, mistral_kind),
    "qwen2": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": ALTERNATING},
        chatml_kind,
    ),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}, chatml_kind),
    "gemma": ("Gemma", {}, gemma_kind),
    "gemma2": (
        "Gemma2",
        {"sliding_window": WINDOW, "layer_types": ALTERNATING, **SOFTCAPS},
        gemma_kind,
    ),
    "gemma3": ("Gemma3", {"sliding_window": WINDOW, "layer_types": ALTERNATING}, gemma_kind),
}


def config_of(family, tokenizer, **changes):
    name, extra, _ = FAMILIES[family]
    kind = "Gemma3TextConfig" if family == "gemma3" else f"{name}Config"
    shape = {**SHAPE, "vocab_size": len(tokenizer), **extra, **changes}
    return getattr(transformers, kind)(**shape)


def random_model(family="llama", tokenizer=None, *, seed=0, attention=None, **changes):
    """Weights wide enough that every part of the model matters to its answers."""
    tokenizer = tokenizer or FAMILIES[family][2]()
    config = config_of(family, tokenizer, **changes)
    model_class = getattr(transformers, f"{FAMILIES[family][0]}ForCausalLM")
    with torch.random.fork_rng(devices=[]):
        model = model_class._from_config(config, attn_implementation=attention)
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                noise = torch.randn(parameter.shape, generator=dice)
                parameter.copy_(noise * 0.9 / parameter.shape[-1] ** 0.5)
        # Continuations are compared as texts: let them be of signs that can be told apart.
        model.get_output_embeddings().weight[unreadable(tokenizer)] *= 0.01
    return model.eval()


def unreadable(tokenizer):
    """Tokens of single bytes, and special tokens."""
    vocabulary = tokenizer.get_vocab().items()
    return [n for piece, n in vocabulary if len(piece) > 4 or not piece.isascii()]


def engine_of(family="llama", *, seed=0, attention=None, dtype=torch.float32, **options):
    tokenizer = FAMILIES[family][2]()
    model = random_model(family, tokenizer, seed=seed, attention=attention).to(dtype)
    return LocalEngine(model, tokenizer, name=f"tiny {family}", **options)


@cache
def shared_engine(family):
    """One engine for every test that leaves it as it was (a test of its own sees to that)."""
    return engine_of(family)


def direction(seed=0, norm=3.0, size=D_MODEL):
    drawn = np.random.default_rng(seed).standard_normal(size)
    return (drawn * norm / np.linalg.norm(drawn)).astype(np.float32)
