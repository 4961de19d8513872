"""A lock on a folder: held by one process, and let go when that ends in whatever way (POSIX)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: nobody ever holds a lock
    fcntl = None  # type: ignore[assignment]


def lock(folder: Path, wait: bool = True) -> int | None:
    """A descriptor that holds the folder's lock until it is closed, see `unlock`.

    Args:
        folder: an existing one.
        wait: for a process that holds it.

    Returns:
        None if another one holds it, or where the file system has no locks.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def unlock(held: int | None) -> None:
    """Let go of what `lock` returned."""
    if held is not None:
        os.close(held)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within this block no other process is within one of the same folder."""
    held = lock(folder)
    try:
        yield
    finally:
        unlock(held)
