"""Forward passes: one prefix for a batch of prompts, then branches or rows over its cache.

Prompts and a ``Plan`` come in, arrays and token ids go out.  Checks of what was
asked, batching and words for the user are elsewhere.

Shape suffixes: B prompt of a batch, R branch, S token of this call, D
d_model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from caa_harness.engines._plan import not_finite
from caa_harness.engines.local._blocks import Delta, adding, branch_masks, reading
from caa_harness.engines.local._tree import TrunkCache, runs_block_by_block, score_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from caa_harness.engines._plan import Plan
    from caa_harness.engines.local._blocks import Anatomy, Ledger
    from caa_harness.prompts import Prompt


_MOST_LOGITS = 2**26
"""Logits alive at once; a large vocabulary times many branches would not fit otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """Prompts in a cache, padded on the left to one width."""

    cache: TrunkCache
    lengths: Tensor
    width: int


class _Entry(NamedTuple):
    """One token that gets one distinct intervention."""

    intervention: int
    row: int | None
    position: int
    starts: bool


class Passes:
    """The three kinds of forward pass that the three questions need."""

    def __init__(
        self, anatomy: Anatomy, *, dtype: torch.dtype, ends: frozenset[int], name: str
    ) -> None:
        self._anatomy = anatomy
        self._dtype = dtype
        self._ends = ends
        self._name = name
        self._block_by_block = runs_block_by_block(anatomy)

    @torch.inference_mode()
    def read(self, prompts: list[Prompt], layers: Sequence[int]) -> np.ndarray:
        """Residuals at each letter, (row, letter, layer, D)."""
        letters = torch.tensor([prompt.letter_ids for prompt in prompts])
        prefix = self._prefill([prompt.ids for prompt in prompts], top=max(layers))
        seen: dict[int, Tensor] = {}
        with reading(self._anatomy, layers, seen):
            self._branch(prefix, letters, num_branches=letters.shape[1])
        columns = [seen[layer].float().cpu() for layer in layers]
        return torch.stack(columns, dim=2).numpy()

    @torch.inference_mode()
    def score(
        self, prompts: list[Prompt], plan: Plan, branch_tokens: int, ledger: Ledger
    ) -> np.ndarray:
        """Log-probability of each letter, (row, distinct intervention, letter)."""
        letters = torch.tensor([p.letter_ids for p in prompts], device=self._anatomy.device)
        reaches = all(
            i is None or plan.start(prompts[0], i) < len(prompts[0].ids) for i in plan.distinct
        )
        if self._block_by_block and reaches:
            finish = partial(self._letter_logprobs, letters=letters)
            return score_tree(self._anatomy, prompts, plan, branch_tokens, ledger, finish).numpy()
        prefix = self._prefill([p.ids[: plan.cut(p)] for p in prompts])
        tails = torch.tensor([p.ids[plan.cut(p) :] for p in prompts])
        length = tails.shape[1]
        parts = []
        for chunk in plan.chunks(max(1, branch_tokens // length)):
            deltas = self._branch_deltas(plan, chunk, prompts[0], length)
            with adding(self._anatomy, deltas, ledger):
                hidden = self._branch(prefix, tails.repeat(1, len(chunk)), num_branches=len(chunk))
            prefix.cache.crop(-length * len(chunk))
            parts.append(self._letter_logprobs(hidden[:, length - 1 :: length], letters))
        return torch.cat(parts, dim=1).numpy()

    def _letter_logprobs(self, hidden: Tensor, letters: Tensor) -> Tensor:
        """Log-probability of each prompt's letters at each of its branches, on the CPU."""
        num_branches = hidden.shape[1]
        rows = hidden.flatten(0, 1)
        chosen = letters.repeat_interleave(num_branches, dim=0)
        size = max(1, _MOST_LOGITS // self._anatomy.vocab_size)
        parts = []
        for some, their in zip(torch.split(rows, size), torch.split(chosen, size), strict=True):
            logits = self._anatomy.unembed(some)
            total = torch.logsumexp(logits, dim=-1, keepdim=True)
            parts.append((logits.gather(1, their.to(logits.device)) - total).cpu())
        return torch.cat(parts).reshape(-1, num_branches, letters.shape[1])

    @torch.inference_mode()
    def extend(
        self,
        prompts: list[Prompt],
        plan: Plan,
        max_new_tokens: int,
        branch_tokens: int,
        ledger: Ledger,
    ) -> list[list[list[int]]]:
        """Token ids of each continuation, by prompt and distinct intervention."""
        longest = max(len(prompt.ids) for prompt in prompts) + max_new_tokens
        result: list[list[list[int]]] = [[] for _ in prompts]
        for chunk in plan.chunks(max(1, branch_tokens // longest)):
            prefix = self._prefill([p.ids[: plan.cut(p)] for p in prompts])
            tails = [p.ids[plan.cut(p) :] for p in prompts]
            first = [self._first_offset(plan, j, prompts[0]) for j in chunk]
            rows = self._decode(
                prefix,
                tails,
                len(chunk),
                max_new_tokens,
                deltas=partial(self._row_deltas, plan, chunk, first),
                ledger=ledger,
            )
            for b, branches in enumerate(result):
                branches.extend(rows[b * len(chunk) : (b + 1) * len(chunk)])
        return result

    def _decode(
        self,
        prefix: _Prefix,
        tails: list[tuple[int, ...]],
        num_branches: int,
        max_new_tokens: int,
        *,
        deltas: Callable[..., dict[int, Delta]],
        ledger: Ledger,
    ) -> list[list[int]]:
        """Decode greedily, ``num_branches`` rows for each prompt; token ids row by row."""
        device = self._anatomy.device
        prefix.cache.batch_repeat_interleave(num_branches)
        tokens = torch.tensor(tails, device=device).repeat_interleave(num_branches, dim=0)
        lengths = prefix.lengths.repeat_interleave(num_branches)
        sees = torch.arange(prefix.width, device=device) >= (prefix.width - lengths)[:, None]
        alive = list(range(len(tokens)))
        result: list[list[int]] = [[] for _ in alive]
        done = 0
        for _ in range(max_new_tokens):
            size = tokens.shape[1]
            sees = torch.cat([sees, sees.new_ones(len(alive), size)], dim=1)
            with adding(self._anatomy, deltas(alive=alive, done=done, size=size), ledger):
                hidden = self._anatomy.decoder(
                    input_ids=tokens,
                    attention_mask=sees.long(),
                    position_ids=lengths[:, None] + torch.arange(size, device=device),
                    past_key_values=prefix.cache,
                    use_cache=True,
                ).last_hidden_state
            logits = self._anatomy.unembed(hidden[:, -1])
            if not bool(torch.isfinite(logits).all()):
                raise not_finite("a logit", self._name)
            chosen = logits.argmax(dim=-1).tolist()
            for row, token in zip(alive, chosen, strict=True):
                result[row].append(token)
            keep = [i for i, token in enumerate(chosen) if token not in self._ends]
            if not keep:
                break
            tokens = torch.tensor([[chosen[i]] for i in keep], device=device)
            lengths, done = lengths + size, done + size
            if len(keep) < len(alive):
                kept = torch.tensor(keep, device=device)
                prefix.cache.batch_select_indices(kept)
                sees, lengths = sees[kept], lengths[kept]
                alive = [alive[i] for i in keep]
        return result

    def _prefill(self, prefixes: list[tuple[int, ...]], *, top: int | None = None) -> _Prefix:
        """Compute the beginnings of prompts, padded on the left, up to block ``top`` or the end."""
        device = self._anatomy.device
        width = max(len(ids) for ids in prefixes)
        padded = [[0] * (width - len(ids)) + list(ids) for ids in prefixes]
        lengths = torch.tensor([len(ids) for ids in prefixes], device=device)
        # Without a config every block keeps all tokens; sliding windows are cut by the masks.
        cache = TrunkCache(top)
        prefix = _Prefix(cache=cache, lengths=lengths, width=width)
        if width:
            positions = torch.arange(width, device=device) - (width - lengths)[:, None]
            with cache.until_top():
                self._anatomy.decoder(
                    input_ids=torch.tensor(padded, device=device),
                    attention_mask=(positions >= 0).long(),
                    position_ids=positions.clamp(min=0),
                    past_key_values=cache,
                    use_cache=True,
                )
        return prefix

    def _branch(self, prefix: _Prefix, tails: Tensor, *, num_branches: int) -> Tensor:
        """Run branches, one after the other in ``tails``, over the prefix; (B, S, D) at the end."""
        device = self._anatomy.device
        length = tails.shape[1] // num_branches
        offsets = torch.arange(length, device=device).repeat(num_branches)
        masks = branch_masks(
            self._anatomy,
            prefix_lengths=prefix.lengths,
            prefix_width=prefix.width,
            num_branches=num_branches,
            branch_length=length,
            dtype=self._dtype,
        )
        return self._anatomy.decoder(
            input_ids=tails.to(device),
            attention_mask=masks,
            position_ids=prefix.lengths[:, None] + offsets,
            past_key_values=prefix.cache,
            use_cache=True,
        ).last_hidden_state

    # -- what is added where ----------------------------------------------------------------

    def _first_offset(self, plan: Plan, j: int, prompt: Prompt) -> int:
        """First steered token of a branch, counted from the cut; the same for equal shapes."""
        intervention = plan.distinct[j]
        return 0 if intervention is None else plan.start(prompt, intervention) - plan.cut(prompt)

    def _branch_deltas(
        self, plan: Plan, chunk: range, prompt: Prompt, length: int
    ) -> dict[int, Delta]:
        """Deltas for branches that lie one after the other in one sequence."""
        entries: dict[int, list[_Entry]] = {}
        for place, j in enumerate(chunk):
            first = self._first_offset(plan, j, prompt)
            for offset in range(first, length):
                entry = _Entry(j, None, place * length + offset, offset == first)
                self._enter(entries, plan, entry)
        return self._deltas(plan, entries)

    def _row_deltas(
        self,
        plan: Plan,
        chunk: range,
        first: list[int],
        *,
        alive: list[int],
        done: int,
        size: int,
    ) -> dict[int, Delta]:
        """Deltas for rows of their own; ``done`` tokens of each lie behind the cut already."""
        entries: dict[int, list[_Entry]] = {}
        for place, row in enumerate(alive):
            branch = row % len(chunk)
            for offset in range(max(first[branch], done), done + size):
                starts = offset == first[branch]
                entry = _Entry(chunk[branch], place, offset - done, starts)
                self._enter(entries, plan, entry)
        return self._deltas(plan, entries)

    def _enter(self, entries: dict[int, list[_Entry]], plan: Plan, entry: _Entry) -> None:
        intervention = plan.distinct[entry.intervention]
        if intervention is not None:
            entries.setdefault(intervention.layer, []).append(entry)

    def _deltas(self, plan: Plan, entries: dict[int, list[_Entry]]) -> dict[int, Delta]:
        """Stack the entries of each layer."""
        return {
            layer: Delta(
                add=torch.from_numpy(np.stack([plan.vectors[e.intervention] for e in those])),
                positions=torch.tensor([entry.position for entry in those]),
                rows=None if those[0].row is None else torch.tensor([e.row for e in those]),
                weights=tuple(plan.weights[entry.intervention] for entry in those),
                starts=tuple(entry.starts for entry in those),
            )
            for layer, those in entries.items()
        }
