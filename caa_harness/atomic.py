"""Atomic files: a file is there whole, or not at all.

Bytes and a path come in.  They are written beside the target, flushed to the
disk and moved over it in one step, so that a killed run leaves nothing half
written and a reader never sees a part.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step; the folder must exist.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes(Path(folder) / "a.bin", b"whole")
    ...     (Path(folder) / "a.bin").read_bytes()
    b'whole'
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; the target gets what an ordinary open would give it.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Put ``content`` at ``path`` as UTF-8, in one step."""
    write_bytes(path, content.encode("utf-8"))


def _umask() -> int:
    """Read the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
