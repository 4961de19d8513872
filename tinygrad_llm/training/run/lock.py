"""One process at a time in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from tinygrad_llm.errors import ConfigError


def take_lock(path: Path) -> int:
    """Lock a file, which is made if it is not there; returns its descriptor, to be closed.

    The system lets go of the lock when the process ends, however it ends. Where there is no
    `fcntl` (not POSIX) nothing is locked.

    Raises:
        OSError: the file cannot be made.
        ConfigError: another process holds the lock.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o666)
        try:
            if _locked(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    """Whether the lock was taken of the file that is there, not of one removed in between."""
    try:
        import fcntl
    except ImportError:  # not POSIX
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(
            f"{path.parent}: another process is training there. Wait for it, or choose another "
            "folder with --out."
        ) from error
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
