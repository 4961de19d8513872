"""One file from the internet: with a progress bar, resumed, checked, and kept in a cache folder."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_llm.backend.checksums import sha256_of
from tinygrad_llm.errors import DataError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30.0


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
    """

    name: str
    url: str
    sha256: str
    also: tuple[str, ...] = ()
    zip_member: str = ""

    def accepts(self, path: Path) -> bool:
        """Whether the content of a file is the expected one."""
        return sha256_of(path) in (self.sha256, *self.also)


def fetch(remote: RemoteFile, folder: Path, progress: bool = True) -> Path:
    """The path of the file in ``folder``, downloaded if it is not there yet.

    A download that was cut off goes on where it stopped. Nothing under the final name is ever
    incomplete: the bytes are collected in ``NAME.part``, checked, and renamed.

    Raises:
        DataError: no network, or the content is not the expected one; says which file to put
            where by hand.
    """
    path = folder / remote.name
    if path.is_file():
        if remote.accepts(path):
            return path
        raise DataError(
            f"{path}: the content is not that of {remote.name} (its sha256 differs; expected "
            f"{remote.sha256}). The file is damaged: delete it, and it is downloaded again."
        )
    partial = folder / f"{remote.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(remote, partial, progress)
        if remote.zip_member:
            _unpack(partial, remote.zip_member)
        accepted = remote.accepts(partial)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(
            f"{remote.name}: cannot be downloaded from {remote.url} ({error}). Without a network, "
            f"get the file elsewhere and put it at {path}"
        ) from error
    if not accepted:
        partial.unlink()
        raise DataError(
            f"{remote.name}: what {remote.url} sent is not the expected file (its sha256 is not "
            f"{remote.sha256}). Try again, or put the right file at {path}"
        )
    os.replace(partial, path)
    return path


def published_sha256(url: str) -> str:
    """The checksum that the server states for a large file, before it redirects to its storage.

    Raises:
        DataError: the server states none.
        OSError: there is no connection.
    """
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "tinygrad_llm"})
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
            headers = response.headers
    except urllib.error.HTTPError as answer:
        answer.close()
        if not 300 <= answer.code < 400:
            raise
        headers = answer.headers
    checksum = (headers.get("X-Linked-ETag") or "").strip('"')
    if len(checksum) != 64:
        raise DataError(f"{url}: the server states no SHA-256, so the file could not be checked")
    return checksum


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves a redirection to the caller."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def _unpack(archive: Path, member: str) -> None:
    """Replace a zip archive by one file out of it."""
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        archive.unlink()  # otherwise the next try would only continue it
        raise OSError(f"no {member} in the archive: {error}") from error
    archive.write_bytes(content)


def _download(remote: RemoteFile, partial: Path, progress: bool) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(remote.url, headers={"User-Agent": "tinygrad_llm"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: the part is whole, or too long
            return
        raise
    with response:
        resumed = have > 0 and response.status == 206
        _copy(response, partial, remote.name, have if resumed else 0, progress)


def _copy(response: Any, partial: Path, name: str, have: int, progress: bool) -> None:
    from tqdm import tqdm

    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    with (
        open(partial, "ab" if have else "wb") as file,
        tqdm(
            total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=not progress
        ) as bar,
    ):
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and partial.stat().st_size < total:
        raise OSError(f"the connection broke after {partial.stat().st_size} of {total} bytes")
