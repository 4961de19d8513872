"""Files that are written whole or not at all, and the folder where downloads are kept."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tinygrad_llm.errors import TinygradLLMError

UNFINISHED = r"\.(.+)\.(\d+)\.[0-9a-f]{12}\.tmp"  # as `open_atomic` calls them: file, process


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under its name only when the block ends without an error.

    The bytes go to a temporary file beside it, are flushed to the disk, and the file is renamed.
    A reader, or a crash at any moment, sees the old file or the new one. The temporary name cannot
    be guessed, and the file must be new: nobody can have put a link there that leads elsewhere.

    Raises:
        OSError: no room, no permission; the old file is untouched and the temporary one removed.
    """
    _remove_unfinished(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(6)}.tmp")
    file = open(temporary, "xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # what went wrong before is what the caller has to know
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _remove_unfinished(path: Path) -> None:
    """Remove the temporary files that writers of this file left, and that were killed."""
    with suppress(OSError):
        for name in os.listdir(path.parent):
            found = re.fullmatch(UNFINISHED, name)
            if found and found[1] == path.name and _has_ended(int(found[2])):
                remove(path.with_name(name), quietly=True)


def _has_ended(process: int) -> bool:
    """Whether there is no process of this number on this machine; never where that is unknown."""
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no number of a process
        return False
    return False


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file of the given content, whole or not at all: see `open_atomic`.

    Raises:
        OSError: no room, no permission; the old file is untouched.
    """
    with open_atomic(path) as file:
        file.write(content)


def open_regular(path: Path, flags: int) -> int:
    """A descriptor of a regular file, which is made if need be, and never reached through a link.

    For names that others can foresee, in a folder that others may write: a planted link would lead
    the writing to a file elsewhere, and a planted pipe would wait for ever.

    Args:
        path: of the file.
        flags: ``os.O_RDWR`` or ``os.O_WRONLY``, and what else `os.open` takes.

    Raises:
        OSError: it is a link, a pipe, a folder, or has a second name; or no permission.
    """
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | os.O_CREAT | safe, 0o666)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, "expected a file without links to it", str(path))
    return descriptor


def open_to_read(path: Path) -> BinaryIO:
    """Open a file that somebody named. A pipe that nobody writes to is empty: it is not waited for.

    Raises:
        OSError: it cannot be read, or is a device, which may have no end.
    """
    file = open(path, "rb", opener=_open_at_once)
    if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and not file.isatty():
        file.close()
        raise OSError(errno.EINVAL, "it is a device, and no file", str(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if os.name == "posix":
        os.set_blocking(descriptor, True)
    return descriptor


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power loss (POSIX; else nothing)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path, quietly: bool = False) -> None:
    """Remove a folder with all that is in it, or whatever else has this name, if anything has.

    Of a link only the link goes. `shutil.rmtree` alone would refuse it, and wait for ever at a
    pipe.

    Args:
        path: what is removed.
        quietly: what cannot be removed stays.

    Raises:
        OSError: it cannot be removed, and not quietly.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=quietly)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        if not quietly:
            raise


@contextmanager
def reading_errors(path: Path, kind: type[TinygradLLMError]) -> Iterator[None]:
    """A block that reads files; what the system refuses there is told as an error of this package.

    Asking whether a file is there fails, too, where a folder must not be searched.

    Args:
        path: what is read, for errors that name no file.
        kind: of the error.

    Raises:
        TinygradLLMError: of that kind.
    """
    try:
        yield
    except OSError as error:
        raise kind(
            f"{error.filename or path}: cannot be read ({error.strerror or error}). Check the "
            "permissions, and the disk."
        ) from error


def file_size(path: Path) -> int:
    """Bytes of a file that can be read from end to end.

    Raises:
        OSError: no such file, or a folder, a pipe or a device: opening a pipe would wait for ever.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    return found.st_size


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where downloads are kept: ``cache_dir``, or ``$TINYGRAD_LLM_CACHE``, or the user's cache.

    The user's cache is ``$XDG_CACHE_HOME/tinygrad_llm``, by default ``~/.cache/tinygrad_llm``.
    """
    if cache_dir is not None:
        return Path(cache_dir)
    named = os.environ.get("TINYGRAD_LLM_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygrad_llm"
