"""Replay: recorded measurements in place of a model.

A folder of measurements files and a spec come in; the measurements that were
recorded for that spec go out, to be judged again, perhaps under other claims.
No model is opened and nothing is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caa_harness.errors import MeasurementError
from caa_harness.measurements import Measurements, read_measurements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caa_harness.spec import BehaviorSpec

SUFFIX = ".measurements.json"


class ReplayEngine:
    """Looks recorded measurements up; holds nothing but the folder's files.

    Parameters
    ----------
    folder : Path
        Files ``*.measurements.json``, in the folder itself (folders in it are not
        searched: the same spec may have been measured in several ways).

    Raises
    ------
    MeasurementError
        When there is no such folder, or no such file in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = tuple(sorted(folder.glob(f"*{SUFFIX}")))
        self._read: dict[Path, Measurements] = {}
        if not self._paths:
            found = "no measurements file" if folder.is_dir() else "no such folder"
            raise MeasurementError(
                found,
                where=str(folder),
                remedy=f"name a folder that holds recorded *{SUFFIX} files",
            )

    def measurements(self, spec: BehaviorSpec) -> Measurements:
        """Return what was recorded for ``spec``, as its digest names it.

        Raises
        ------
        MeasurementError
            When nothing was recorded for the spec as it is now; the message says what
            differs from what was recorded for its behaviour.  When two files were.
        """
        recorded = list(self._recorded())
        fitting = [path for path, found in recorded if found.spec_digest == spec.digest]
        if len(fitting) == 1:
            return self._read[fitting[0]]
        if fitting:
            raise MeasurementError(
                f"{len(fitting)} files hold measurements of this spec:"
                f" {', '.join(path.name for path in fitting)}",
                where=f"{self._folder}, {spec.behavior}",
                remedy="keep the one to be judged in a folder of its own",
            )
        same_behavior = [
            (path, found) for path, found in recorded if found.behavior == spec.behavior
        ]
        if same_behavior:
            path, found = same_behavior[0]
            raise MeasurementError(
                f"recorded for another version of the spec: {_difference(spec, found)}",
                where=str(path),
                remedy="measure again with this spec, or judge with the spec it was recorded for",
            )
        behaviors = sorted({found.behavior for _, found in recorded})
        raise MeasurementError(
            f"nothing is recorded for {spec.behavior}",
            where=str(self._folder),
            remedy=f"measure it first; recorded are {', '.join(behaviors)}",
        )

    def _recorded(self) -> Iterator[tuple[Path, Measurements]]:
        """Read the folder's files, each once."""
        for path in self._paths:
            if path not in self._read:
                self._read[path] = read_measurements(path)
            yield path, self._read[path]


def _difference(spec: BehaviorSpec, recorded: Measurements) -> str:
    """Say in what the spec and the recorded measurements differ, as far as both show it."""
    now = [question.digest for question in spec.held_out]
    then = set(recorded.questions)
    parts = []
    if fresh := sum(digest not in then for digest in now):
        parts.append(f"{fresh} of {len(now)} held-out questions were not asked")
    if gone := len(then - set(now)):
        parts.append(f"{gone} that were asked are gone")
    if spec.multipliers != recorded.multipliers:
        parts.append(
            f"multipliers are {_numbers(spec.multipliers)}, recorded"
            f" {_numbers(recorded.multipliers)}"
        )
    if spec.scoring != recorded.scoring:
        parts.append(f"scoring is {spec.scoring}, recorded {recorded.scoring}")
    if len(spec.pairs) != recorded.vector.num_pairs:
        parts.append(f"{len(spec.pairs)} pairs, recorded {recorded.vector.num_pairs}")
    if not parts:
        parts.append(
            "questions, multipliers, scoring and the number of pairs are equal, so the texts of the"
            " pairs, the probe, the layer or the seed differ"
        )
    return "; ".join(parts)


def _numbers(values: tuple[float, ...]) -> str:
    """Write multipliers without needless digits."""
    return " ".join(f"{value:g}" for value in values)
