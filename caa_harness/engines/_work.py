"""What an engine has to do for a call: distinct interventions, and batches of prompts.

No model is known here.  ``Plan`` says which interventions are really different
and which tokens each one reaches; ``Queue`` deals prompts out in batches of
about equal length and makes the batches smaller when memory runs out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from caa_harness.engines import Receipt
from caa_harness.engines._loading import free_memory, is_out_of_memory
from caa_harness.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caa_harness.engines import Intervention
    from caa_harness.prompts import Prompt

_MOST_BRANCH_TOKENS = 512
"""Branches of one sequence hide from one another; a longer sequence wastes attention."""


def added_vector(intervention: Intervention) -> np.ndarray:
    """Return what is added to the residual stream, in float32."""
    return np.float32(intervention.multiplier) * intervention.direction.astype(np.float32)


def not_finite(what: str, name: str) -> EngineError:
    """Say that the model's numbers broke down."""
    return EngineError(
        f"{what} is NaN or infinite",
        where=name,
        remedy="choose a dtype with more range (bfloat16 or float32), or smaller multipliers",
    )


class Plan:
    """The distinct interventions of a call, in an order that does not depend on the caller's.

    ``index[i]`` is the distinct intervention that stands for the ``i``-th one asked for;
    ``weights[j]`` counts how many the ``j``-th distinct one stands for.
    """

    def __init__(self, interventions: Sequence[Intervention | None]) -> None:
        by_key: dict[tuple[int, str, bytes], Intervention | None] = {}
        keys = []
        for intervention in interventions:
            active = None if intervention is None or intervention.is_identity else intervention
            key = (
                (-1, "", b"")
                if active is None
                else (active.layer, active.positions, added_vector(active).tobytes())
            )
            by_key.setdefault(key, active)
            keys.append(key)
        ordered = sorted(by_key)
        counts = Counter(keys)
        self.distinct = tuple(by_key[key] for key in ordered)
        self.index = [ordered.index(key) for key in keys]
        self.weights = tuple(counts[key] for key in ordered)

    def start(self, prompt: Prompt, intervention: Intervention) -> int:
        """First token of the prompt, or of what follows it, that the intervention reaches."""
        return prompt.prompt_end - (intervention.positions == "from_prompt_end")

    def cut(self, prompt: Prompt) -> int:
        """Count the tokens that no intervention reaches, one less when that would be all."""
        starts = [self.start(prompt, i) for i in self.distinct if i is not None]
        return min([*starts, len(prompt.ids) - 1])

    def shape(self, prompt: Prompt) -> tuple[int, int]:
        """Prompts of one shape can share a batch: their branches are alike token by token."""
        cut = self.cut(prompt)
        return len(prompt.ids) - cut, prompt.prompt_end - cut

    def chunks(self, size: int) -> Iterator[range]:
        """Deal the distinct interventions out, ``size`` at a time."""
        for first in range(0, len(self.distinct), size):
            yield range(first, min(first + size, len(self.distinct)))

    def receipt(
        self, prompts: Sequence[Prompt], num_fed: Sequence[Sequence[int]] | None = None
    ) -> Receipt:
        """Return the receipt that the call must end with, from lengths alone.

        ``num_fed[i][j]`` counts the tokens that were generated and fed back, by prompt and
        distinct intervention.
        """
        num_rows = num_positions = 0
        layers = set()
        for i, prompt in enumerate(prompts):
            for j, intervention in enumerate(self.distinct):
                if intervention is None:
                    continue
                reached = len(prompt.ids) - self.start(prompt, intervention)
                reached += 0 if num_fed is None else num_fed[i][j]
                if reached > 0:
                    num_rows += self.weights[j]
                    num_positions += self.weights[j] * reached
                    layers.add(intervention.layer)
        return Receipt(num_rows=num_rows, num_positions=num_positions, layers=tuple(sorted(layers)))


class Queue:
    """Rows waiting to be computed, longest first, dealt out in batches under a token budget.

    Parameters
    ----------
    items : sequence of (shape, prefix length, branch tokens)
        One for each row.  Only rows of equal shape share a batch.
    tokens : int
        Most tokens of a batch, padding counted.  A single row always fits.
    name : str
        What messages call the model.
    most_branch_tokens : int, optional
        Most tokens of one row's branches in one pass; None leaves only ``tokens``.

    Notes
    -----
    ``put_back`` after an out-of-memory error halves the batch, then the branches of a single
    row, and notes it; when neither can be halved it raises.
    """

    def __init__(
        self,
        items: Sequence[tuple[tuple[int, ...], int, int]],
        *,
        tokens: int,
        name: str,
        most_branch_tokens: int | None = _MOST_BRANCH_TOKENS,
    ) -> None:
        self._items = items
        self._waiting = sorted(range(len(items)), key=lambda row: (items[row][:2], row))
        self._tokens = tokens
        self._most_rows = len(items)
        self._name = name
        self.branch_tokens = min(tokens, most_branch_tokens or tokens)
        """Most tokens of the branches of one row in one pass."""
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[list[int]]:
        while self._waiting:
            shape, width, _ = self._items[self._waiting[-1]]
            batch: list[int] = []
            while self._waiting and len(batch) < self._most_rows:
                row = self._waiting[-1]
                cost = width + min(self._items[row][2], self.branch_tokens)
                if batch and (
                    self._items[row][0] != shape or (len(batch) + 1) * cost > self._tokens
                ):
                    break
                batch.append(self._waiting.pop())
            yield batch

    def put_back(self, batch: list[int], error: Exception) -> None:
        """Take a batch back that did not fit into memory; raise anything else."""
        if not is_out_of_memory(error):
            raise error
        free_memory(error)
        num_branch_tokens = min(max(self._items[row][2] for row in batch), self.branch_tokens)
        if len(batch) > 1:
            self._most_rows = len(batch) // 2
            self.notes.append(f"batch halved to {self._most_rows} prompts after out of memory")
        elif num_branch_tokens > 1:
            self.branch_tokens = num_branch_tokens // 2
            self.notes.append(f"branches halved to {self.branch_tokens} tokens after out of memory")
        else:
            raise EngineError(
                "out of memory with a single prompt",
                where=self._name,
                remedy="choose a smaller dtype (bfloat16), a device map such as 'auto', "
                "or a device with more memory",
            ) from error
        self._waiting.extend(reversed(batch))
