"""Batches of about equal length under a token budget, made smaller when memory runs out.

Sizes come in, lists of row numbers go out.  What the rows are is unknown here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caa_harness.engines.local._loading import free_memory, is_out_of_memory
from caa_harness.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_BRANCH_TOKENS = 512
"""Branches of one sequence hide from one another; a longer sequence wastes attention."""


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
