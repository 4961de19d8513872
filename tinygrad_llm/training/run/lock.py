"""One process at a time in a folder."""

from __future__ import annotations

from pathlib import Path

from tinygrad_llm.backend.lock import FileLock
from tinygrad_llm.errors import ConfigError


def take_lock(path: Path) -> FileLock:
    """The lock on a file, which is made if it is not there.

    Raises:
        OSError: the file cannot be made, or is a link.
        ConfigError: another process holds the lock.
    """
    lock = FileLock(path)
    if not lock.acquire():
        raise ConfigError(
            f"{path.parent}: another process is training there. Wait for it, or choose another "
            "folder with --out."
        )
    return lock
