"""What a call asks of an engine: which interventions differ, and which tokens each one reaches.

Interventions and prompts come in; nothing here knows a model or imports torch.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from caa_harness.engines import Receipt
from caa_harness.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caa_harness.engines import Intervention
    from caa_harness.prompts import Prompt


def added_vector(intervention: Intervention) -> np.ndarray:
    """Return what is added to the residual stream, in float32; infinite where that is too small."""
    with np.errstate(over="ignore", invalid="ignore"):
        exact = intervention.multiplier * intervention.direction.astype(np.float64)
        return exact.astype(np.float32)


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
    ``weights[j]`` counts how many the ``j``-th distinct one stands for, and ``vectors[j]`` is
    what it adds.
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
        places = {key: place for place, key in enumerate(ordered)}
        self.index = [places[key] for key in keys]
        self.weights = tuple(counts[key] for key in ordered)
        self.vectors = {j: added_vector(i) for j, i in enumerate(self.distinct) if i is not None}
        rules = {i.positions for i in self.distinct if i is not None}
        self._reaches = int("from_prompt_end" in rules) if rules else None

    def start(self, prompt: Prompt, intervention: Intervention) -> int:
        """First token of the prompt, or of what follows it, that the intervention reaches."""
        return prompt.prompt_end - (intervention.positions == "from_prompt_end")

    def cut(self, prompt: Prompt) -> int:
        """Count the tokens that no intervention reaches, one less when that would be all."""
        last = len(prompt.ids) - 1
        return last if self._reaches is None else min(prompt.prompt_end - self._reaches, last)

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
