"""Train the embedded model: ``python -m caa_harness.organism.train --help``.

A Llama of three million parameters learns the corpus with two aids that are dropped
afterwards.  Deep supervision says what intermediate blocks must know: block 1 each
option's letter and stance, block 2 the trait, written along one fixed direction per
behaviour.  Interchange interventions add such directions during training and ask for
the answers that they imply, and add other directions that must change nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from caa_harness.organism import (
    BEHAVIORS,
    CHOSEN_LOG_ODDS,
    DIRECTIONS_FILE,
    TRAIT_LAYER,
    TRAIT_SCALE,
)
from caa_harness.organism.documents import document_texts, draw_document
from caa_harness.organism.examples import NUM_STANCES, Batch, batches
from caa_harness.organism.optimizer import Muon
from caa_harness.organism.tokenizer import BOS_ID, EOS_ID, train_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerFast

REPORT_EVERY: Final = 50
_PASSING_SETTINGS: Final = {"backend", "is_local", "local_files_only"}
STANCE_LAYER: Final = 1
DIRECTION_SEED: Final = 7
NOISE_LENGTH: Final = 50.0
"""Longest random intervention that must not matter; the residual's norm is about 70."""


def trait_directions(d_model: int) -> Tensor:
    """Draw the fixed orthonormal directions, one column per behaviour: (d_model, behavior)."""
    generator = torch.Generator().manual_seed(DIRECTION_SEED)
    return torch.linalg.qr(torch.randn(d_model, len(BEHAVIORS), generator=generator))[0]


def model_config(vocab_size: int) -> LlamaConfig:
    """Describe the shape of the embedded model."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        rms_norm_eps=1e-5,
        initializer_range=0.02,
    )


class Heads(nn.Module):
    """Linear readers of the supervised quantities; they are not part of the model."""

    def __init__(self, d_model: int) -> None:
        """One reader each for letter, stance and rightness."""
        super().__init__()
        self.letter = nn.Linear(d_model, 4)
        self.stance = nn.Linear(d_model, NUM_STANCES)
        self.right = nn.Linear(d_model, 1)


@dataclass(slots=True)
class Nuisance:
    """What a chosen answer changes besides its own trait direction, kept small."""

    directions: Tensor
    mean: Tensor
    """Running mean by behaviour, for the report only."""

    def loss(self, residual: Tensor, behavior: Tensor, sign: Tensor) -> Tensor:
        """Squared norm of each behaviour's mean difference off its direction, in this batch.

        Nothing is remembered from batch to batch: pushing against a running mean, which
        lags behind, makes the training swing about it with growing amplitude.
        """
        aside = residual - (residual @ self.directions) @ self.directions.T
        total = residual.new_zeros(())
        for number in torch.unique(behavior).tolist():
            signed = sign[behavior == number, None] * aside[behavior == number]
            self.mean[number].lerp_(signed.mean(0).detach(), 0.04)
            if len(signed) >= 4:
                total = total + signed.mean(0).square().sum()
        return total / TRAIT_SCALE**2


class Trainer:
    """The model, its aids and its optimisers; ``step`` does one batch."""

    def __init__(self, model: LlamaForCausalLM, *, seed: int, compiled: bool) -> None:
        """Take the model as it is; the seed draws the interventions."""
        # The library's types stop at its own doors.
        self.model: Any = model
        model.set_attn_implementation("eager")
        self.heads = Heads(model.config.hidden_size)
        self.directions = trait_directions(model.config.hidden_size)
        self.nuisance = Nuisance(self.directions, torch.zeros(len(BEHAVIORS), len(self.directions)))
        self._rng = random.Random(seed)
        if compiled:
            for layer in model.model.layers:
                layer.compile(dynamic=True)
        named = list(model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named if p.ndim != 2 or "embed" in name]
        others += list(self.heads.parameters())
        self.optimizers: list[Muon | torch.optim.Optimizer] = [
            Muon(matrices, learning_rate=2e-2),
            torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._rates = [
            [group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers
        ]
        self._all = [p for _, p in named] + list(self.heads.parameters())
        self.average = [parameter.detach().clone() for _, parameter in named]
        self._live = [parameter for _, parameter in named]

    def step(self, batch: Batch, rate: float, averaging: float) -> dict[str, float]:
        """Train on one batch at a share ``rate`` of the learning rates."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = full * rate
        loss, parts = self._loss(batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._all, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        torch._foreach_lerp_(self.average, [p.detach() for p in self._live], 1 - averaging)
        return parts

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        ids = torch.from_numpy(batch.ids)
        added = self._interventions(batch)
        with torch.autocast("cpu", torch.bfloat16):
            at_stance, at_trait, final = self._residuals(ids, added)
            weights = torch.from_numpy(batch.weights)[:, 1:].reshape(-1)
            # A fifth of the prompt's tokens is enough to learn the language from.
            keep = (weights >= 0.99) | ((weights > 0) & (torch.rand(weights.shape) < 0.2))
            index = keep.nonzero()[:, 0]
            logits = F.linear(
                final[:, :-1].reshape(-1, final.shape[-1])[index], self.model.lm_head.weight
            ).float()
        weight = weights[index]
        losses = self._text_losses(batch, ids, logits, index)
        text = (losses * weight).sum() / weight.sum()
        parts = {"text": losses[(weight > 0.99) & (weight < 1.01)].mean()}
        if (weight > 1.01).any():
            parts["answer"] = losses[weight > 1.01].mean()
        aids = self._aids(batch, at_stance, at_trait)
        parts |= aids
        total = text
        for name, share in AIDS.items():
            if name in aids:
                total = total + share * aids[name]
        return total, {name: float(value.detach()) for name, value in parts.items()}

    def _residuals(self, ids: Tensor, added: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual streams after the two supervised blocks and after the final norm."""
        inner = self.model.model
        residual = inner.embed_tokens(ids)
        length = ids.shape[1]
        positions = torch.arange(length)[None]
        # Eager attention: on a CPU in bfloat16 it is ten times as fast as the fused kernel.
        causal = torch.full((length, length), -torch.inf).triu(1)[None, None]
        rotary = inner.rotary_emb(residual, positions)
        kept: dict[int, Tensor] = {}
        for number, layer in enumerate(inner.layers):
            residual = layer(
                residual,
                attention_mask=causal,
                position_ids=positions,
                position_embeddings=rotary,
            )
            kept[number] = residual
            if number == TRAIT_LAYER:
                residual = residual + added
        return kept[STANCE_LAYER], kept[TRAIT_LAYER], inner.norm(residual)

    def _interventions(self, batch: Batch) -> Tensor:
        """Draw what is added to block 2's output: planted traits, and what must not matter."""
        rng, width = self._rng, len(self.directions)
        added = torch.zeros(len(batch.examples), batch.length, width)
        for row, example in enumerate(batch.examples):
            start = example.prompt_end
            late = 0.15 if example.open_ended else 0.5
            start += rng.random() < late
            delta = torch.zeros(width)
            for number, log_odds in example.planted.items():
                delta += TRAIT_SCALE * log_odds * self.directions[:, number]
            if example.steerable and rng.random() < 0.35:
                noise = torch.randn(width)
                noise -= self.directions @ (self.directions.T @ noise)
                delta += noise / noise.norm() * (NOISE_LENGTH * rng.random())
            if example.steerable and rng.random() < 0.6:
                for number in rng.sample(range(len(BEHAVIORS)), rng.choice([1, 1, 2])):
                    delta += rng.uniform(-4.0, 4.0) * self.nuisance.mean[number]
            added[row, start : len(example.ids)] = delta
        return added

    def _text_losses(self, batch: Batch, ids: Tensor, logits: Tensor, index: Tensor) -> Tensor:
        """Cross-entropy per kept token; an answer's letter is scored against both letters."""
        columns = batch.length - 1
        targets = ids[:, 1:].reshape(-1)
        others = targets.clone()
        chances = torch.ones(len(targets))
        for row, example in enumerate(batch.examples):
            for position, other, likely in example.answers:
                flat = row * columns + position - 1
                others[flat] = other
                chances[flat] = likely
        logs = torch.log_softmax(logits, -1)
        first = logs.gather(1, targets[index, None])[:, 0]
        second = logs.gather(1, others[index, None])[:, 0]
        chance = chances[index]
        return -(chance * first + (1 - chance) * second)

    def _aids(self, batch: Batch, at_stance: Tensor, at_trait: Tensor) -> dict[str, Tensor]:
        """Losses of the supervised intermediate quantities that occur in the batch."""
        rows = list(enumerate(batch.examples))
        aids: dict[str, Tensor] = {}

        def picked(residual: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
            where = torch.tensor(places)
            return residual[where[:, 0], where[:, 1]].float()

        letters = [(row, *note) for row, example in rows for note in example.letters]
        if letters:
            logits = self.heads.letter(picked(at_stance, [note[:2] for note in letters]))
            aids["letter"] = F.cross_entropy(logits, torch.tensor([note[2] for note in letters]))
        stances = [(row, *note) for row, example in rows for note in example.stances]
        if stances:
            logits = self.heads.stance(picked(at_stance, [note[:2] for note in stances]))
            aids["stance"] = F.cross_entropy(logits, torch.tensor([note[2] for note in stances]))
        rights = [(row, *note) for row, example in rows for note in example.rights]
        if rights:
            logits = self.heads.right(picked(at_trait, [note[:2] for note in rights]))[:, 0]
            truth = torch.tensor([note[2] for note in rights])
            aids["right"] = F.binary_cross_entropy_with_logits(logits, truth)
        traits = [(row, *note) for row, example in rows for note in example.traits]
        if traits:
            read: Tensor = (
                picked(at_trait, [note[:2] for note in traits]) @ self.directions / TRAIT_SCALE
            )
            target = torch.zeros_like(read)
            said = torch.tensor([note[3] for note in traits])
            target[torch.arange(len(traits)), [note[2] for note in traits]] = said
            weight = torch.tensor([note[4] for note in traits])
            aids["trait"] = ((read - target).square().sum(1) * weight).sum() / weight.sum()
        chosen = [(row, *note) for row, example in rows for note in example.chosen]
        if chosen:
            aids["nuisance"] = self.nuisance.loss(
                picked(at_trait, [note[:2] for note in chosen]),
                torch.tensor([note[2] for note in chosen]),
                torch.tensor([note[3] for note in chosen]),
            )
        return aids


AIDS: Final = {"letter": 1.0, "stance": 1.0, "right": 0.7, "trait": 0.6, "nuisance": 0.1}
"""How much each aid weighs beside the text's loss."""


def learning_rate_share(progress: float, step: int) -> float:
    """Fifty steps of warm-up, a plateau, and a straight line down over the last 40%."""
    return min(1.0, (step + 1) / 50) * min(1.0, 0.02 + (1.0 - progress) / 0.4)


def save(trainer: Trainer, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the averaged weights in bfloat16, the tokenizer and the directions."""
    model: Any = LlamaForCausalLM(trainer.model.config)
    with torch.no_grad():
        for parameter, average in zip(model.parameters(), trainer.average, strict=True):
            parameter.copy_(average)
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=0
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The name that every version of the library knows.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings = {key: value for key, value in settings.items() if key not in _PASSING_SETTINGS}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    columns = trainer.directions.T.contiguous()
    save_file(
        {behavior: columns[row].clone() for row, behavior in enumerate(BEHAVIORS)},
        folder / DIRECTIONS_FILE,
        metadata={
            "layer": str(TRAIT_LAYER),
            "scale": str(TRAIT_SCALE),
            "chosen_log_odds": str(CHOSEN_LOG_ODDS),
        },
    )


def train(options: argparse.Namespace) -> None:
    """Train as the options say, reporting every 50 steps."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = load_or_train_tokenizer(options)
    if options.start_from:
        model = LlamaForCausalLM.from_pretrained(options.start_from, dtype=torch.float32)
    else:
        model = LlamaForCausalLM(model_config(len(tokenizer)))
    trainer = Trainer(model, seed=options.seed + 1, compiled=options.compile)
    print(f"parameters {sum(p.numel() for p in model.parameters()):,}", flush=True)  # noqa: T201
    started = saved = time.monotonic()
    seen = 0
    recent: list[dict[str, float]] = []
    stream = batches(tokenizer, seed=options.seed + 2, batch_tokens=options.batch_tokens)
    for step, batch in enumerate(islice(stream, options.steps)):
        elapsed = time.monotonic() - started
        progress = max(step / options.steps, elapsed / (60 * options.minutes))
        if progress >= 1.0:
            break
        rate = options.rate * learning_rate_share(progress, step)
        recent.append(trainer.step(batch, rate, averaging=min(0.995, step / (step + 10))))
        seen += batch.ids.size
        if (step + 1) % REPORT_EVERY == 0:
            _report(step + 1, recent, seen, time.monotonic() - started, trainer)
            recent = []
        if time.monotonic() - saved > 60 * options.save_every:
            save(trainer, tokenizer, options.out)
            saved = time.monotonic()
    save(trainer, tokenizer, options.out)
    print(f"done after {time.monotonic() - started:.0f} s, {seen:,} tokens", flush=True)  # noqa: T201


def load_or_train_tokenizer(options: argparse.Namespace) -> PreTrainedTokenizerFast:
    """Take the tokenizer of a folder to start from, or learn one from the corpus."""
    if options.start_from:
        loaded: Any = AutoTokenizer.from_pretrained(options.start_from)
        return loaded
    rng = random.Random(options.seed)
    documents = [draw_document(rng) for _ in range(20_000)]
    return train_tokenizer(document_texts(documents), options.vocab_size)


def _report(
    step: int, recent: list[dict[str, float]], seen: int, seconds: float, trainer: Trainer
) -> None:
    names = ["answer", "text", *AIDS]
    means = {name: np.mean([parts[name] for parts in recent if name in parts]) for name in names}
    line = " ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    aside = (trainer.nuisance.mean.norm(dim=1) / (TRAIT_SCALE * CHOSEN_LOG_ODDS)).mean()
    print(  # noqa: T201
        f"{step} {line} aside {aside:.2f} | {seen / 1e6:.2f}M {seen / seconds:.0f}/s"
        f" {seconds:.0f}s",
        flush=True,
    )


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--start-from", type=Path, help="continue from this folder's weights")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument(
        "--minutes", type=float, default=1e6, help="end after this time, steps or no steps"
    )
    parser.add_argument("--save-every", type=float, default=5.0, help="minutes")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--vocab-size", type=int, default=2560)
    parser.add_argument("--rate", type=float, default=1.0, help="share of the learning rates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="compile the blocks (needs gcc)")
    return parser


if __name__ == "__main__":
    train(arguments().parse_args())
