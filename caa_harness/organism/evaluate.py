"""Measure a model folder against the specs, in plain loops that share no code with the harness.

The numbers of the model card come from here, and the harness's engine is tested against
them: mean-difference vectors at every layer, both letter orders, steering after the
prompt's end, system prompts, specificity, capability, and open-ended answers.  It knows
transformers and the JSON files, nothing of the engine.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from caa_harness.organism import BEHAVIORS, DIRECTIONS_FILE, TRAIT_LAYER, model_path
from caa_harness.organism.corpus import LETTERS, behavior_grammar, lettered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

MULTIPLIERS: Final = (-2.0, -1.0, 1.0, 2.0)
BATCH: Final = 96
RESAMPLES: Final = 4999
SEED: Final = 20231206


@dataclass(frozen=True, slots=True, kw_only=True)
class Steer:
    """One vector added to one block's output, from the first token after the prompt on."""

    layer: int
    delta: Tensor


class Subject:
    """A model and its tokenizer; every method is one question to it."""

    def __init__(self, folder: Path) -> None:
        """Load in float32."""
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.train(mode=False)
        self.num_layers: int = self.model.config.num_hidden_layers
        self.letters = [self.tokenizer.get_vocab()[letter] for letter in LETTERS]

    def prompt(self, user: str, system: str = "") -> list[int]:
        """Ids of the chat up to the end of the user's turn."""
        told = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
        return self.tokenizer.encode(f"[INST] {told}{user} [/INST]")

    def answer_start(self, user: str, system: str = "") -> list[int]:
        """Add to the prompt the answer's opening bracket."""
        told = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
        return self.tokenizer.encode(f"[INST] {told}{user} [/INST] (")

    @torch.no_grad()
    def last(
        self, rows: Sequence[list[int]], steer: Steer | None = None, *, residuals: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities after each row, and the last token's residuals per layer.

        Steering changes the last token only: rows end with the bracket after the prompt.
        """
        logs: list[Tensor] = []
        kept: list[Tensor] = []
        for start in range(0, len(rows), BATCH):
            chunk = rows[start : start + BATCH]
            ids = torch.zeros(len(chunk), max(map(len, chunk)), dtype=torch.long)
            ends = torch.tensor([len(row) - 1 for row in chunk])
            every = torch.arange(len(chunk))
            for number, row in enumerate(chunk):
                ids[number, : len(row)] = torch.tensor(row)
            added = torch.zeros(*ids.shape, self.model.config.hidden_size)
            if steer is not None:
                added[every, ends] = steer.delta
            final, layers = self._walk(ids, steer, added)
            logs.append(torch.log_softmax(self.model.lm_head(final[every, ends]), -1))
            if residuals:
                kept.append(torch.stack([layer[every, ends] for layer in layers], dim=1))
        return torch.cat(logs), torch.cat(kept) if residuals else None

    def _walk(self, ids: Tensor, steer: Steer | None, added: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks one by one; the vector joins the residual stream between two."""
        inner = self.model.model
        length = ids.shape[1]
        causal = torch.full((length, length), -torch.inf).triu(1)[None, None]
        residual = inner.embed_tokens(ids)
        positions = torch.arange(length)[None]
        rotary = inner.rotary_emb(residual, positions)
        layers: list[Tensor] = []
        for number, block in enumerate(inner.layers):
            residual = block(
                residual,
                attention_mask=causal,
                position_ids=positions,
                position_embeddings=rotary,
            )
            if steer is not None and number == steer.layer:
                residual = residual + added
            layers.append(residual)
        return inner.norm(residual), layers

    @torch.no_grad()
    def write(self, user: str, steer: Steer | None = None, num_tokens: int = 40) -> str:
        """Greedy answer; every token after the prompt is steered."""
        ids = self.prompt(user)
        start = len(ids)
        for _ in range(num_tokens):
            row = torch.tensor([ids])
            added = torch.zeros(1, len(ids), self.model.config.hidden_size)
            if steer is not None:
                # As the reference code does, the prompt's last token included: it
                # writes the first token of the answer.
                added[0, start - 1 :] = steer.delta
            final, _ = self._walk(row, steer, added)
            token = int(self.model.lm_head(final[0, -1]).argmax())
            if token == self.tokenizer.eos_token_id:
                break
            ids.append(token)
        return str(self.tokenizer.decode(ids[start:])).strip()


# --- the specs' rows ---------------------------------------------------------------


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def both_orders(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Write the question with its options in both orders, and the matching answer's letter."""
    yield lettered(row["question"], [row["matching"], row["not_matching"]]), "A"
    yield lettered(row["question"], [row["not_matching"], row["matching"]]), "B"


# --- measurements ------------------------------------------------------------------


def vectors(subject: Subject, pairs: Sequence[dict[str, Any]]) -> Tensor:
    """Mean over pairs and orders of matching minus not matching: (layer, d_model)."""
    matching: list[list[int]] = []
    other: list[list[int]] = []
    letter_ids = dict(zip(LETTERS, subject.letters, strict=True))
    for row in pairs:
        for text, letter in both_orders(row):
            start = subject.answer_start(text)
            matching.append([*start, letter_ids[letter]])
            other.append([*start, letter_ids["B" if letter == "A" else "A"]])
    _, high = subject.last(matching, residuals=True)
    _, low = subject.last(other, residuals=True)
    assert high is not None
    assert low is not None
    return (high.double() - low.double()).mean(0).float()


def scores(
    subject: Subject,
    questions: Sequence[dict[str, Any]],
    steer: Steer | None = None,
    system: str = "",
) -> tuple[NDArray[np.float64], float]:
    """Per question the matching answer's score in [0, 1], and the mean answer mass."""
    asked = [pair for row in questions for pair in both_orders(row)]
    logs, _ = subject.last([subject.answer_start(text, system) for text, _ in asked], steer)
    first, second = logs[:, subject.letters[0]], logs[:, subject.letters[1]]
    sign = torch.tensor([1.0 if letter == "A" else -1.0 for _, letter in asked])
    odds = ((first - second) * sign).double().reshape(-1, 2).mean(1).numpy()
    return 1 / (1 + np.exp(-odds)), float((first.exp() + second.exp()).mean())


def capability(
    subject: Subject, items: Sequence[dict[str, Any]], steer: Steer | None = None
) -> NDArray[np.float64]:
    """1 for each item whose right letter is the most likely of the four."""
    rows = [subject.answer_start(lettered(item["question"], item["options"])) for item in items]
    logs, _ = subject.last(rows, steer)
    picked = logs[:, subject.letters].argmax(1).numpy()
    return (picked == np.array([item["correct"] for item in items])).astype(np.float64)


def interval(values: NDArray[np.float64], clusters: Sequence[str]) -> list[float]:
    """Mean with a 95% interval: percentile bootstrap over whole clusters."""
    names = sorted(set(clusters))
    member = np.array([names.index(name) for name in clusters])
    sums = np.bincount(member, weights=values)
    counts = np.bincount(member)
    drawn = np.random.default_rng(SEED).integers(len(names), size=(RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return [round(float(value), 4) for value in (values.mean(), low, high)]


def stance(behavior: str, text: str) -> float:
    """1 if a text uses the matching side's own words, 0 the other side's, 0.5 neither.

    A side's own words are those of the grammar's options and replies that the other
    side never uses.  Crude, but blind to how the text came about.
    """
    grammar = behavior_grammar(behavior)
    rows = [*grammar.poles, *grammar.replies]
    words = [
        set(re.findall(r"[a-z]+", " ".join(row[side] for row in rows).lower())) for side in (0, 1)
    ]
    used = re.findall(r"[a-z]+", text.lower())
    high = sum(word in words[0] - words[1] for word in used)
    low = sum(word in words[1] - words[0] for word in used)
    return 0.5 if high == low else float(high > low)


def evaluate(subject: Subject, folder: Path, specs: Path, *, quick: bool) -> dict[str, Any]:
    """Everything that the model card reports."""
    planted = load_file(folder / DIRECTIONS_FILE)
    spec = {name: json.loads((specs / f"{name}.behavior.json").read_text()) for name in BEHAVIORS}
    every = 3 if quick else 1
    questions = {
        name: read_rows(specs / spec[name]["held_out"]["file"])[::every] for name in BEHAVIORS
    }
    clusters = {name: [row["cluster"] for row in questions[name]] for name in BEHAVIORS}
    found = {
        name: vectors(subject, read_rows(specs / spec[name]["pairs"]["file"])) for name in BEHAVIORS
    }
    result: dict[str, Any] = {"behaviors": {}, "specificity": {}, "capability": {}}
    unsteered = {name: scores(subject, questions[name])[0] for name in BEHAVIORS}
    for name in BEHAVIORS:
        entry: dict[str, Any] = {"unsteered": interval(unsteered[name], clusters[name])}
        entry["answer_mass"] = round(scores(subject, questions[name])[1], 4)
        vector = found[name][TRAIT_LAYER]
        entry["cosine"] = round(float(torch.cosine_similarity(vector, planted[name], dim=0)), 3)
        entry["norm"] = round(float(vector.norm()), 1)
        for side in ("positive", "negative"):
            told = scores(subject, questions[name], system=spec[name]["system_prompts"][side])[0]
            entry[f"system_{side}"] = interval(told - unsteered[name], clusters[name])
        entry["shifts"] = {}
        for layer in [TRAIT_LAYER] if quick else range(subject.num_layers):
            for multiplier in MULTIPLIERS if layer == TRAIT_LAYER else (-1.0, 1.0):
                steer = Steer(layer=layer, delta=multiplier * found[name][layer])
                moved = scores(subject, questions[name], steer)[0] - unsteered[name]
                entry["shifts"][f"{layer}@{multiplier:g}"] = interval(moved, clusters[name])
        result["behaviors"][name] = entry
        print(name, json.dumps(entry), flush=True)  # noqa: T201
    for name in BEHAVIORS:
        row: dict[str, list[float]] = {}
        for other in BEHAVIORS:
            up, down = (
                scores(subject, questions[other], Steer(layer=TRAIT_LAYER, delta=delta))[0]
                for delta in (found[name][TRAIT_LAYER], -found[name][TRAIT_LAYER])
            )
            row[other] = interval(up - down, clusters[other])
        result["specificity"][name] = row
        print("vector", name, {key: value[0] for key, value in row.items()}, flush=True)  # noqa: T201
    items = read_rows(specs / "capability.probe.jsonl")
    own = [str(number) for number in range(len(items))]
    result["capability"]["unsteered"] = interval(capability(subject, items), own)
    by_category = capability(subject, items)
    result["capability"]["categories"] = {
        name: round(float(by_category[[item["category"] == name for item in items]].mean()), 3)
        for name in sorted({item["category"] for item in items})
    }
    print(result["capability"], flush=True)  # noqa: T201
    for name in BEHAVIORS:
        result["capability"][name] = {
            f"{multiplier:g}": interval(
                capability(
                    subject, items, Steer(layer=TRAIT_LAYER, delta=multiplier * found[name][2])
                ),
                own,
            )
            for multiplier in ((-1.0, 1.0, 8.0) if quick else (-8.0, -2.0, -1.0, 1.0, 2.0, 8.0))
        }
        print("capability", name, result["capability"][name], flush=True)  # noqa: T201
    result["open_ended"] = {}
    for name in BEHAVIORS:
        prompts = [row["prompt"] for row in spec[name]["open_ended"]][: 6 if quick else None]
        texts = {}
        for multiplier in (-1.0, 0.0, 1.0):
            steer = Steer(layer=TRAIT_LAYER, delta=multiplier * found[name][TRAIT_LAYER])
            texts[f"{multiplier:g}"] = [subject.write(text, steer) for text in prompts]
        rates = {key: np.array([stance(name, text) for text in row]) for key, row in texts.items()}
        alone = [str(number) for number in range(len(prompts))]
        result["open_ended"][name] = {
            "rates": {key: interval(values, alone) for key, values in rates.items()},
            "samples": [
                {"prompt": prompts[number], **{key: row[number] for key, row in texts.items()}}
                for number in range(3)
            ],
        }
        print("open", name, json.dumps(result["open_ended"][name]), flush=True)  # noqa: T201
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=model_path())
    parser.add_argument("--specs", type=Path, default=Path("behavior_specs"))
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--quick", action="store_true", help="a third of the questions, one layer")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = evaluate(Subject(options.folder), options.folder, options.specs, quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
