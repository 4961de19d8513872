"""One file from the internet: with a progress bar, resumed, checked, and kept in a cache folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tinygrad_llm.backend.checksums import is_verifying, sha256_of
from tinygrad_llm.backend.files import file_size, open_regular, sync_folder
from tinygrad_llm.backend.lock import FileLock
from tinygrad_llm.backend.transfer import TransferError, ask, unpacked
from tinygrad_llm.errors import DataError

_REST_OF_ARCHIVE = 1 << 20  # bytes that an archive may hold beside the file that is wanted
_LOOK_SECONDS = 0.1  # between two looks at what another process downloads
_STANDSTILL_SECONDS = 300.0  # of the other process, after which waiting ends


@dataclass(frozen=True)
class RemoteFile:
    """A file with a known content.

    Attributes:
        name: the file's name in the cache folder.
        url: where it can be had.
        sha256: checksum of its content, in hexadecimal.
        also: checksums of other copies that are as good (say, with a newline at the end).
        zip_member: the file's name within the zip archive that the address gives; empty if the
            address gives the file itself. The checksum is that of the file, not of the archive.
        max_bytes: a longer file is not the expected one; no more is taken from a server.
    """

    name: str
    url: str
    sha256: str
    also: tuple[str, ...] = ()
    zip_member: str = ""
    max_bytes: int = 1 << 24

    def accepts(self, path: Path) -> bool:
        """Whether the content of a file is the expected one."""
        return file_size(path) <= self.max_bytes and sha256_of(path) in (self.sha256, *self.also)


def fetch(remote: RemoteFile, folder: Path, progress: bool = True) -> Path:
    """The path of the file in ``folder``, downloaded if it is not there yet.

    A download that was cut off goes on where it stopped. Nothing under the final name is ever
    incomplete: the bytes are collected in ``NAME.part``, checked, and renamed. Of several processes
    that want the file at once, one downloads it and the others wait.

    Raises:
        DataError: no network, a server that is too slow or sends something else, or no place for
            the file; says which file to put where by hand.
    """
    path = folder / remote.name
    if os.path.lexists(path):
        check(remote, path)
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _turn(remote, folder, progress):
            if not os.path.lexists(path):  # else another process has brought it
                _download(remote, path, progress)
    except TransferError as error:
        raise DataError(
            f"{remote.name}: cannot be downloaded from {remote.url} ({error}). Without a network, "
            f"get the file elsewhere and put it at {path}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{remote.name}: cannot be written to {folder} ({error}). Make room or get the "
            "permission, or name another folder: set TINYGRAD_LLM_CACHE."
        ) from error
    return path


def check(remote: RemoteFile, path: Path) -> None:
    """Refuse what stands at ``path`` unless it is the expected file.

    Raises:
        DataError: it is another one, or none, or cannot be read.
    """
    try:
        if not is_verifying() or remote.accepts(path):
            return
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Remove it.") from error
    raise DataError(
        f"{path}: the content is not that of {remote.name} (its sha256 differs; expected "
        f"{remote.sha256}). The file is damaged: delete it, and it is downloaded again."
    )


@contextmanager
def _turn(remote: RemoteFile, folder: Path, progress: bool) -> Iterator[None]:
    """Be the only process that downloads the file; until then, show how far the other one is.

    Raises:
        TransferError: the other one stands still.
    """
    lock, part = FileLock(folder / f".{remote.name}.lock"), folder / _part_name(remote)
    if not lock.acquire():
        with _bar(f"{remote.name} (by another process)", 0, None, progress) as tell:
            seen, since = 0, time.monotonic()
            while not lock.acquire():
                grown = _size(part) - seen
                if grown:
                    tell(grown)
                    seen, since = seen + grown, time.monotonic()
                elif time.monotonic() - since > _STANDSTILL_SECONDS:
                    raise TransferError(f"another process holds {lock.path} and does not get on")
                time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _download(remote: RemoteFile, path: Path, progress: bool) -> None:
    """Bring the file to ``path``. After an error, what has come stays for the next try."""
    part = path.with_name(_part_name(remote))
    if remote.zip_member:
        _receive(remote, part, remote.max_bytes + _REST_OF_ARCHIVE, progress)
        part = _unpack(part, remote)
    else:
        _receive(remote, part, remote.max_bytes, progress)
    if not remote.accepts(part):
        part.unlink()
        raise DataError(
            f"{remote.name}: what {remote.url} sent is not the expected file (its sha256 is not "
            f"{remote.sha256}). Try again, or put the right file at {path}"
        )
    os.replace(part, path)
    sync_folder(path.parent)


def _unpack(archive: Path, remote: RemoteFile) -> Path:
    """Replace an archive by the file out of it, which is returned. Half of one is worth nothing."""
    part = archive.with_name(f"{remote.name}.part")
    try:
        with _open(part) as file:
            file.truncate(0)
            _write(unpacked(archive, remote.zip_member), file, remote.max_bytes)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        archive.unlink()
    return part


def _part_name(remote: RemoteFile) -> str:
    """Under which name the bytes of a server are collected."""
    return f"{remote.name}.zip.part" if remote.zip_member else f"{remote.name}.part"


def _receive(remote: RemoteFile, part: Path, max_bytes: int, progress: bool) -> None:
    """What the server sends, behind what is in ``part`` already."""
    try:
        with _open(part) as file, ask(remote.url, start=file.seek(0, os.SEEK_END)) as sent:
            total = None if sent.length is None else sent.start + sent.length
            if total is not None and total > max_bytes:
                raise _too_long(total, max_bytes)
            file.truncate(sent.start)
            file.seek(sent.start)
            with _bar(remote.name, sent.start, total, progress) as tell:
                have = _write(sent, file, max_bytes, tell)
        if total is not None and have < total:
            raise TransferError(f"the connection broke after {have:,} of {total:,} bytes")
        if not have:
            raise TransferError("an empty file was sent")
    finally:
        if part.is_file() and not _size(part):
            part.unlink()


def _too_long(n_bytes: int, max_bytes: int) -> TransferError:
    return TransferError(f"{n_bytes:,} bytes or more are sent; expected at most {max_bytes:,}")


def _open(part: Path) -> BinaryIO:
    return open(open_regular(part, os.O_RDWR), "r+b")


def _write(
    pieces: Iterable[bytes],
    file: BinaryIO,
    max_bytes: int,
    tell: Callable[[int], object] = lambda n_bytes: None,
) -> int:
    """Append pieces to a file, up to a length; returns the length.

    Raises:
        TransferError: there is more; the file is empty then.
    """
    have = file.tell()
    for piece in pieces:
        have += len(piece)
        if have > max_bytes:
            file.truncate(0)
            raise _too_long(have, max_bytes)
        file.write(piece)
        tell(len(piece))
    file.flush()
    os.fsync(file.fileno())
    return have


@contextmanager
def _bar(
    name: str, start: int, total: int | None, progress: bool
) -> Iterator[Callable[[int], object]]:
    """A progress bar, as a function that is told how many bytes have come."""
    from tqdm import tqdm

    with tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=not progress
    ) as bar:
        yield bar.update


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
