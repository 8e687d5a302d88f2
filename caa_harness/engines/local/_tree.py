"""Scoring as one pass: a trunk, and branches that begin where they are steered.

Prompts and a ``Plan`` come in, the residual stream at the end of every branch goes
out.  The trunk is the whole prompt, unsteered; it runs once.  A branch holds the
tokens that one intervention reaches.  It begins after its own block, from the
trunk's residual stream plus what is added, and runs through the blocks above that
one over the trunk's keys and values.  No block runs twice for the same numbers.

Shape suffixes: B prompt of a batch, S token of the branches, T token of the trunk,
D d_model.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import DynamicCache

from caa_harness.engines.local._blocks import FULL, SLIDING, Delta, as_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from caa_harness.engines._plan import Plan
    from caa_harness.engines.local._blocks import Anatomy, Ledger
    from caa_harness.prompts import Prompt

_NEEDED = {"attention_mask", "position_embeddings", "position_ids", "past_key_values"}


class _TopReachedError(Exception):
    """Leaves a forward pass at the keys and values of the top block; never seen outside."""


class TrunkCache(DynamicCache):
    """Keys and values of a trunk; with ``top`` set, the pass ends once that block's are there."""

    def __init__(self, top: int | None) -> None:
        super().__init__()
        self.top = top

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep keys and values; nothing of the top block but these is needed."""
        kept = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == self.top:
            raise _TopReachedError
        return kept

    @contextmanager
    def until_top(self) -> Iterator[None]:
        """Take the end of the pass for what it is; afterwards the cache grows as any other."""
        try:
            yield
        except _TopReachedError:
            pass
        finally:
            self.top = None


class _OverTrunk:
    """A cache that puts a trunk before the branches, and keeps nothing of them."""

    def __init__(self, trunk: DynamicCache) -> None:
        self._layers: list[Any] = trunk.layers

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the trunk's keys and values with the branches' own behind them."""
        trunk = self._layers[layer]
        return torch.cat([trunk.keys, key], dim=-2), torch.cat([trunk.values, value], dim=-2)


class Branch(NamedTuple):
    """One distinct intervention; ``layer`` is the block after which the branch begins."""

    place: int
    layer: int
    length: int


def runs_block_by_block(anatomy: Anatomy) -> bool:
    """Whether the blocks take what a branch must give them."""
    if len(anatomy.blocks) < 2 or not hasattr(anatomy.decoder, "rotary_emb"):  # noqa: PLR2004
        return False
    return all(
        inspect.signature(type(block).forward).parameters.keys() >= _NEEDED
        for block in {type(block): block for block in anatomy.blocks}.values()
    )


def score_tree(  # noqa: PLR0917 - one caller, one meaning each
    anatomy: Anatomy,
    prompts: Sequence[Prompt],
    plan: Plan,
    branch_tokens: int,
    ledger: Ledger,
    finish: Callable[[Tensor], Tensor],
) -> Tensor:
    """Run the trunk and all branches; ``finish`` turns (B, branch, D) residuals into answers.

    Returns what ``finish`` returned, one column for each distinct intervention of ``plan``.
    All prompts have the same ``plan.shape``; ``branch_tokens`` bounds the tokens of one
    prompt's branches that are alive at once.
    """
    device = anatomy.device
    top = len(anatomy.blocks) - 1
    lengths = torch.tensor([len(prompt.ids) for prompt in prompts], device=device)
    width = int(lengths.max())
    padded = torch.tensor(
        [[*prompt.ids, *[0] * (width - len(prompt.ids))] for prompt in prompts], device=device
    )
    branches, at_top = _branches(plan, prompts[0], top)
    starts: dict[int, Tensor] = {}
    # Padding stands behind the text: no token of a prompt sees it, and no mask is needed.
    cache = TrunkCache(top)
    with _starting(anatomy, branches, plan, lengths, starts, ledger), cache.until_top():
        anatomy.decoder(
            input_ids=padded,
            position_ids=torch.arange(width, device=device)[None].expand(len(prompts), -1),
            past_key_values=cache,
            use_cache=True,
        )
    columns: dict[int, Tensor] = {}
    for chunk in _chunks(branches, branch_tokens):
        hidden = _climb(anatomy, chunk, cache, starts, lengths)
        ends = torch.tensor([b.length for b in chunk], device=hidden.device).cumsum(0) - 1
        answers = finish(anatomy.decoder.get_submodule("norm")(hidden[:, ends]))
        columns.update({b.place: answers[:, i] for i, b in enumerate(chunk) if b.place >= 0})
        if chunk[-1] is branches[-1] and at_top:
            unsteered = hidden[:, -chunk[-1].length :]
            _finish_at_top(anatomy, unsteered, at_top, plan, ledger, finish, columns)
    return torch.stack([columns[place] for place in range(len(plan.distinct))], dim=1)


def _branches(plan: Plan, prompt: Prompt, top: int) -> tuple[list[Branch], list[Branch]]:
    """Branches in the order in which they begin, and those that begin after the last block.

    The unsteered row comes last.  It begins before the last block, up to where the trunk runs.
    """
    below: list[Branch] = []
    at_top: list[Branch] = []
    unsteered = None
    longest = 1
    for place, intervention in enumerate(plan.distinct):
        if intervention is None:
            unsteered = place
            continue
        length = len(prompt.ids) - plan.start(prompt, intervention)
        branch = Branch(place, intervention.layer, length)
        (at_top if branch.layer == top else below).append(branch)
        if branch.layer == top:
            longest = max(longest, length)
    below.sort(key=lambda branch: (branch.layer, branch.place))
    if unsteered is not None or at_top:
        below.append(Branch(-1 if unsteered is None else unsteered, top - 1, longest))
    return below, at_top


def _chunks(branches: Sequence[Branch], most_tokens: int) -> Iterator[list[Branch]]:
    """Deal branches out, neighbours together, at least one at a time."""
    chunk: list[Branch] = []
    for branch in branches:
        if chunk and sum(b.length for b in chunk) + branch.length > most_tokens:
            yield chunk
            chunk = []
        chunk.append(branch)
    yield chunk


@contextmanager
def _starting(  # noqa: PLR0917 - one caller, one meaning each
    anatomy: Anatomy,
    branches: Sequence[Branch],
    plan: Plan,
    lengths: Tensor,
    starts: dict[int, Tensor],
    ledger: Ledger,
) -> Iterator[None]:
    """Begin branches where the trunk passes their block: ``starts[place]`` is (B, S, D)."""
    handles: list[Any] = []

    def hook_for(layer: int) -> Any:
        def start(_block: Any, _inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            for branch in branches:
                if branch.layer == layer:
                    offsets = torch.arange(-branch.length, 0, device=lengths.device)
                    where = (lengths[:, None] + offsets).to(hidden.device)
                    rows = torch.arange(len(hidden), device=hidden.device)[:, None]
                    starts[branch.place] = _steered(
                        hidden[rows, where], branch, plan, ledger, layer
                    )

        return start

    try:
        handles.extend(
            anatomy.blocks[layer].register_forward_hook(hook_for(layer))
            for layer in {branch.layer for branch in branches}
        )
        yield
    finally:
        for handle in handles:
            handle.remove()


def _steered(tail: Tensor, branch: Branch, plan: Plan, ledger: Ledger, layer: int) -> Tensor:
    """Add the branch's vector to (B, S, D), and enter it in the ledger; identities add nothing."""
    if branch.place not in plan.vectors:
        return tail
    delta = Delta(
        add=torch.from_numpy(plan.vectors[branch.place]).expand(branch.length, -1),
        positions=torch.arange(branch.length),
        weights=(plan.weights[branch.place],) * branch.length,
        starts=(True,) + (False,) * (branch.length - 1),
    )
    ledger.enter(layer, delta, len(tail))
    return delta.added_to(tail)


def _climb(
    anatomy: Anatomy,
    chunk: Sequence[Branch],
    trunk: TrunkCache,
    starts: dict[int, Tensor],
    lengths: Tensor,
) -> Tensor:
    """Run branches up to the last block's output; each joins after the block it begins at."""
    device = lengths.device
    of_S = torch.cat([torch.full((b.length,), i) for i, b in enumerate(chunk)]).to(device)
    behind_S = torch.cat([torch.arange(-b.length, 0) for b in chunk]).to(device)
    first_S = torch.cat([torch.full((b.length,), -b.length) for b in chunk]).to(device)
    query_BS = lengths[:, None] + behind_S
    key_T = torch.arange(int(lengths.max()), device=device)
    trunk_BST = key_T < (lengths[:, None] + first_S)[:, :, None]
    own_SS = (of_S[:, None] == of_S) & (behind_S[:, None] >= behind_S)
    sees = torch.cat([trunk_BST, own_SS.expand(len(lengths), -1, -1)], dim=2)
    masks = {FULL: sees}
    if anatomy.window is not None:
        keys = torch.cat([key_T.expand(len(lengths), -1), query_BS], dim=1)
        masks[SLIDING] = sees & (query_BS[:, :, None] - keys[:, None] < anatomy.window)
    dtype = starts[chunk[0].place].dtype
    ready = {kind: as_mask(mask, anatomy.attention, dtype) for kind, mask in masks.items()}
    cache = _OverTrunk(trunk)
    hidden: Tensor | None = None
    turned: dict[str, Any] = {}
    waiting = list(chunk)
    for layer in range(chunk[0].layer + 1, len(anatomy.blocks)):
        joining = []
        while waiting and waiting[0].layer == layer - 1:
            joining.append(starts.pop(waiting.pop(0).place))
        if joining:
            before = [] if hidden is None else [hidden]
            hidden = torch.cat(
                [*before, *(j.to((before or joining)[0].device) for j in joining)], 1
            )
            turned = {}
        assert hidden is not None
        num, kind = hidden.shape[1], anatomy.kinds[layer]
        if kind not in turned:
            turned[kind] = _turn(anatomy, hidden, query_BS[:, :num], kind)
        output = anatomy.blocks[layer](
            hidden,
            attention_mask=ready[kind][:, :, :num, : len(key_T) + num],
            position_ids=query_BS[:, :num],
            position_embeddings=turned[kind],
            past_key_values=cache,
            use_cache=True,
        )
        hidden = output[0] if isinstance(output, tuple) else output
    assert hidden is not None
    return hidden


def _turn(anatomy: Anatomy, hidden: Tensor, positions: Tensor, kind: str) -> Any:
    """Rotary embedding of the positions, by kind of block where the model has several."""
    rotary = anatomy.decoder.get_submodule("rotary_emb")
    if "layer_type" in inspect.signature(rotary.forward).parameters:
        return rotary(hidden, positions, kind)
    return rotary(hidden, positions)


def _finish_at_top(  # noqa: PLR0917 - one caller, one meaning each
    anatomy: Anatomy,
    unsteered: Tensor,
    at_top: Sequence[Branch],
    plan: Plan,
    ledger: Ledger,
    finish: Callable[[Tensor], Tensor],
    columns: dict[int, Tensor],
) -> None:
    """Steer after the last block: no block is left to run."""
    top = len(anatomy.blocks) - 1
    ends = [
        _steered(unsteered[:, -branch.length :], branch, plan, ledger, top)[:, -1]
        for branch in at_top
    ]
    answers = finish(anatomy.decoder.get_submodule("norm")(torch.stack(ends, dim=1)))
    columns.update({branch.place: answers[:, i] for i, branch in enumerate(at_top)})
