"""One file out of a zip archive that a server sent: bombs, odd methods, damage."""

from __future__ import annotations

import hashlib
import io
import random
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_server import CONTENT, Server, serving

from tinygrad_llm.backend.download import RemoteFile, fetch
from tinygrad_llm.errors import DataError


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def packed(content: bytes = CONTENT, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("read me", b"not this one")
        archive.writestr("inside", content)
    return buffer.getvalue()


def get(server: Server, archive: bytes, folder: Path) -> bytes:
    server.archive = archive
    checksum = hashlib.sha256(CONTENT).hexdigest()
    remote = RemoteFile(
        "file.bin", server.url("/archive"), checksum, zip_member="inside", max_bytes=len(CONTENT)
    )
    return fetch(remote, folder, progress=False).read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_file_arrives(server: Server, tmp_path: Path, method: int) -> None:
    assert get(server, packed(method=method), tmp_path) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def with_field(archive: bytes, central: int, local: int, value: int) -> bytes:
    """The archive with two bytes set in the headers of its last file."""
    changed = bytearray(archive)
    for mark, offset in ((b"PK\x01\x02", central), (b"PK\x03\x04", local)):
        at = archive.rindex(mark) + offset
        changed[at : at + 2] = value.to_bytes(2, "little")
    return bytes(changed)


WHOLE = packed()
HOSTILE = {
    "encrypted": (with_field(WHOLE, 8, 6, 1), "encrypted"),
    "unknown method": (with_field(WHOLE, 10, 8, 99), "packed by method 99"),
    "rare method": (packed(method=zipfile.ZIP_LZMA), "packed by method 14"),
    "later version": (with_field(WHOLE, 6, 4, 250), "version 25"),
    "no archive": (CONTENT, "not a zip file"),
    "cut off": (WHOLE[:-30], "not a zip file"),
    "other member": (WHOLE.replace(b"inside", b"beside"), "no inside in the archive"),
    "damaged": (
        WHOLE.replace(zlib.compress(CONTENT)[20:40], bytes(20)),
        "no inside in the archive",
    ),
    "bomb": (packed(bytes(10**8)), "expected at most 12,800"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_with_an_archive_is_one_sentence(
    server: Server, tmp_path: Path, name: str
) -> None:
    archive, message = HOSTILE[name]
    with pytest.raises(DataError, match=f"file.bin: cannot be downloaded.*{message}"):
        get(server, archive, tmp_path)
    assert get(server, WHOLE, tmp_path) == CONTENT, "and the next try goes well"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_bomb_takes_no_memory(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("inside", "w") as inside:
            for _ in range(100):
                inside.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected at most 12,800"):
            get(server, buffer.getvalue(), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_mangled_archives(server: Server, tmp_path: Path, n: int) -> None:
    """Whatever comes is the file or an error of ours."""
    random.seed(n)
    intact = 0
    for _ in range(n):
        mangled = bytearray(WHOLE)
        for _ in range(random.randrange(1, 4)):
            at = random.choice([random.randrange(len(WHOLE)), -random.randrange(1, 160)])
            mangled[at] = random.choice([0, 1, 255, random.randrange(256)])
        try:
            intact += get(server, bytes(mangled), tmp_path) == CONTENT
            (tmp_path / "file.bin").unlink()
        except DataError:
            assert list(tmp_path.iterdir()) == []
    assert 0 < intact < n
