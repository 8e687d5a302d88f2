"""Files that travel with the package: the seven specs.

A wheel holds them inside the package; a checkout has them beside it.
"""

from __future__ import annotations

from pathlib import Path

from caa_harness.errors import HarnessError


def specs_folder() -> Path:
    """Return the folder of the shipped behavior specs.

    Raises
    ------
    HarnessError
        When the installation lost them.
    """
    package = Path(__file__).parent
    for folder in (package / "behavior_specs", package.parent / "behavior_specs"):
        if any(folder.glob("*.behavior.json")):
            return folder
    raise HarnessError(
        "the shipped behavior specs are missing",
        where=str(package),
        remedy="install caa-harness again",
    )
