"""caa-harness: behaviour specs in, steered measurements and verdicts out.

Importing this package imports nothing heavy; each name is fetched when it is
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caa_harness.engines import Engine, Intervention, ModelCard
    from caa_harness.errors import HarnessError
    from caa_harness.evaluation import measure
    from caa_harness.measurements import Measurements, read_measurements, write_measurements
    from caa_harness.pipeline import Run, RunOptions, open_engine
    from caa_harness.spec import BehaviorSpec, load_spec
    from caa_harness.vectors import SteeringVector, compute_vectors
    from caa_harness.verdict import Verdict, judge

__version__ = "0.1.0"

_HOMES = {
    "BehaviorSpec": "spec",
    "Engine": "engines",
    "HarnessError": "errors",
    "Intervention": "engines",
    "Measurements": "measurements",
    "ModelCard": "engines",
    "Run": "pipeline",
    "RunOptions": "pipeline",
    "SteeringVector": "vectors",
    "Verdict": "verdict",
    "compute_vectors": "vectors",
    "judge": "verdict",
    "load_spec": "spec",
    "measure": "evaluation",
    "open_engine": "pipeline",
    "read_measurements": "measurements",
    "write_measurements": "measurements",
}

__all__ = [
    "BehaviorSpec",
    "Engine",
    "HarnessError",
    "Intervention",
    "Measurements",
    "ModelCard",
    "Run",
    "RunOptions",
    "SteeringVector",
    "Verdict",
    "__version__",
    "compute_vectors",
    "judge",
    "load_spec",
    "measure",
    "open_engine",
    "read_measurements",
    "write_measurements",
]


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{home}"), name)
