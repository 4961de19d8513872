"""A download is killed, or the disk fails, at each of its file events; then it is tried again."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend.hostile_server import CONTENT, Server, serving
from tests.reliability.faults import FULL, KILL, Fault
from tests.reliability.processes import run
from tinygrad_llm.backend.download import RemoteFile, fetch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits memory")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside", CONTENT)
        running.archive = buffer.getvalue()
        yield running


def bring(url: str, folder: Path) -> bytes:
    """The content of the file, downloaded into ``folder``; out of an archive if it is one."""
    member = "inside" if url.endswith("archive") else ""
    checksum = hashlib.sha256(CONTENT).hexdigest()
    remote = RemoteFile("file.bin", url, checksum, zip_member=member)
    return fetch(remote, folder, progress=False).read_bytes()


@pytest.mark.parametrize("path", ["/good", "/archive"])
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_at_each_event(server: Server, tmp_path: Path, path: str, every: int) -> None:
    """The error is a sentence, the next try brings the file, and nothing else is left over."""
    url = server.url(path)
    events = run(bring, url, tmp_path / "none", folder=tmp_path / "none").events
    assert len(events) >= 8
    for what in (KILL, FULL, "EIO", "EACCES"):
        for at in range(len(events) % every, len(events), every):
            folder = tmp_path / f"{what} {at}"
            first = run(bring, url, folder, folder=folder, fault=Fault(at, what))
            assert first.killed if what == KILL else first.clean, (what, events[at], first.raw)
            assert bring(url, folder) == CONTENT, (what, events[at])
            assert set(os.listdir(folder)) <= {"file.bin", ".file.bin.lock"}, (what, events[at])
