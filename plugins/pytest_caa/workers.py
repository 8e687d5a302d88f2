"""What changes when pytest-xdist spreads the cases over workers.

Registered only where xdist is.  Workers measure together through a shared
folder; what they collected and left out comes back to the controller.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_caa.collection import ClaimCase, refuse_reruns
from pytest_caa.options import asked_device
from pytest_caa.results import results_key

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT = "caa_deselected"


class Controller:
    """Hooks of the process that hands out the cases."""

    def __init__(self, config: pytest.Config) -> None:
        self.results = config.stash[results_key]

    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Learn what the workers have collected."""
        self.results.expect(ids)
        if self.results.collected:
            refuse_reruns(node.config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Learn what the workers have left out; a crashed one says nothing."""
        del error
        self.results.leave_out(getattr(node, "workeroutput", {}).get(OUTPUT, ()))


class Worker:
    """Hooks of a process that runs cases."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.deselected: list[str] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Collect what is left out here."""
        self.deselected += [item.nodeid for item in items if isinstance(item, ClaimCase)]

    def pytest_sessionfinish(self) -> None:
        """Hand it to the controller."""
        self.config.workeroutput[OUTPUT] = self.deselected  # type: ignore[attr-defined]


def wants_gpus(config: pytest.Config) -> bool:
    """Whether the session asks for GPUs without naming one."""
    return asked_device(config) == "cuda"


def gpus() -> list[str]:
    """Names of the GPUs that the caller may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []


def check_worker_count(config: pytest.Config) -> None:
    """Refuse more workers than GPUs.

    Raises
    ------
    pytest.UsageError
        When two workers would share a GPU that was not named.
    """
    visible, workers = gpus(), len(getattr(config.option, "tx", None) or ())
    if wants_gpus(config) and visible and workers > len(visible):
        message = (
            f"--caa-device cuda: {workers} workers for {len(visible)} GPUs\n"
            f"  try: -n {len(visible)}, or one device by its number, such as --caa-device cuda:0"
        )
        raise pytest.UsageError(message)


def take_own_gpu(config: pytest.Config) -> None:
    """Leave a worker one GPU of the caller's list, before torch is imported."""
    visible = gpus()
    if not wants_gpus(config) or not visible:
        return
    number = int(config.workerinput["workerid"].removeprefix("gw"))  # type: ignore[attr-defined]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]
