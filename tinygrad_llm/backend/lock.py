"""One process at a time: a lock that the system takes back, however its process ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tinygrad_llm.backend.files import open_regular

try:
    import fcntl
except ImportError:  # not POSIX: every process gets the lock
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A lock on a file of its own.

    Args:
        path: the lock's own file, beside what it guards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Take the lock if it is free, without waiting; whether this object holds it.

        A file system that knows no locks gives it to everybody.

        Raises:
            OSError: the file cannot be made, or something else stands in its place.
        """
        while not self.held:
            descriptor = open_regular(self.path, os.O_RDWR)
            if not _locked(descriptor):
                os.close(descriptor)
                return False
            if _is_file(descriptor, self.path):
                self._descriptor = descriptor
            else:  # the last holder removed the file between the two calls: its name is free again
                os.close(descriptor)
        return True

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor >= 0

    def release(self, remove: bool = True) -> None:
        """Let the next one have it.

        Args:
            remove: the file, too; first, while nobody else can hold the lock.
        """
        if not self.held:
            return
        if remove:
            with suppress(OSError):  # in a folder where it cannot be removed it does no harm
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def _locked(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network folder without locks
        return True
    return True


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
