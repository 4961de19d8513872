"""Token shards: files of token ids that are read through a memory map, never as a whole.

A shard is a header of 64 bytes and the ids, little-endian:

    bytes 0-7     magic "TGLLMTOK"
    bytes 8-11    version (uint32)
    bytes 12-15   bytes of one id: 2 or 4 (uint32)
    bytes 16-23   number of ids (uint64)
    bytes 24-55   SHA-256 of the ids
    bytes 56-59   CRC-32 of bytes 0-55, and of 60-63 where they are not zero
    bytes 60-63   what it is of (see `tag_of`), or zero where nobody has said
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.files import open_atomic, reading_errors
from tinygrad_llm.errors import DataError
from tinygrad_llm.hints import command

MAGIC = b"TGLLMTOK"
VERSION = 1
HEADER_BYTES = 64
SUFFIX = ".tokens"
INDEX = "index.json"
_FIELDS = struct.Struct("<8sIIQ32s")
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class ShardHeader:
    """What stands at the beginning of a shard."""

    dtype: np.dtype
    count: int
    sha256: bytes
    tag: int


def tag_of(tokenizer: object, pieces: Sequence[Mapping[str, Any]]) -> int:
    """A checksum of the text and the tokenizer that a shard is made of, as the index has them.

    A shard of another folder is whole, and would be read as if it belonged here.
    """
    about = [tokenizer, [[p["sha256"], p["stop"] - p["start"], p["last"]] for p in pieces]]
    return zlib.crc32(json.dumps(about).encode("utf-8")) or 1


def write_shard(path: Path, ids: np.ndarray, tag: int = 0) -> ShardHeader:
    """Write ids (n,) of uint16 or uint32 as a shard, whole or not at all.

    Raises:
        DataError: another dtype or more than one axis, or the file cannot be written.
    """
    if ids.ndim != 1 or ids.dtype not in (np.uint16, np.uint32):
        raise DataError(
            f"{path}: a shard takes a row of uint16 or uint32 ids, got {ids.dtype} {ids.shape}."
        )
    little = np.ascontiguousarray(ids, ids.dtype.newbyteorder("<"))
    header = ShardHeader(little.dtype, len(ids), hashlib.sha256(little.data).digest(), tag)
    fields = _FIELDS.pack(MAGIC, VERSION, ids.dtype.itemsize, len(ids), header.sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as file:
            file.write(fields + struct.pack("<II", _header_checksum(fields, tag), tag))
            file.write(little.data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error}).") from error
    return header


def _header_checksum(fields: bytes, tag: int) -> int:
    return zlib.crc32(fields + struct.pack("<I", tag) if tag else fields)


def read_header(path: Path) -> ShardHeader:
    """The header of a shard, checked, and compared with the size of the file.

    Raises:
        DataError: no such file, not a shard, another version, damaged, or cut off.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    if raw[:8] != MAGIC or len(raw) < HEADER_BYTES:
        raise DataError(
            f"{path}: not a token shard (it must begin with {MAGIC.decode()}). Make shards with: "
            f"{command('tokenize', 'FILES', '--out', 'DIR')}"
        )
    fields = raw[: _FIELDS.size]
    _, version, itemsize, count, sha256 = _FIELDS.unpack(fields)
    stored, tag = struct.unpack("<II", raw[_FIELDS.size :])
    if stored != _header_checksum(fields, tag):
        raise DataError(f"{path}: the header is damaged. Tokenize the text again.")
    if version != VERSION or itemsize not in (2, 4):
        raise DataError(
            f"{path}: shard of version {version} with {itemsize}-byte ids; this package reads "
            f"version {VERSION} with 2 or 4. Update the package or tokenize the text again."
        )
    expected = HEADER_BYTES + count * itemsize
    if size != expected:
        raise DataError(
            f"{path}: {size} bytes, but its header says {expected}. The file was cut off or "
            "written to; tokenize the text again."
        )
    return ShardHeader(np.dtype(f"<u{itemsize}"), count, sha256, tag)


def verify_shard(path: Path) -> None:
    """Compare the ids with their checksum; reads the whole file in pieces.

    Raises:
        DataError: they differ, or the header is wrong.
    """
    header = read_header(path)
    digest = hashlib.sha256()
    with reading_errors(path, DataError), open(path, "rb") as file:
        file.seek(HEADER_BYTES)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.digest() != header.sha256:
        raise DataError(
            f"{path}: the ids do not fit their checksum; the file is damaged. Delete it and "
            "tokenize the text again: only this shard is made anew."
        )


class TokenShards:
    """Shards one after the other, as one long row of ids for `TokenDataset`.

    Only the pages that are touched are in memory, and the system may drop them at any time.

    Args:
        paths: shard files in order, or a folder of them (ordered by name).
        verify: read everything once and compare checksums; for sets so large that this takes
            too long, False checks the headers and sizes only.

    Raises:
        DataError: no shard there, a damaged one, or dtypes that differ.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], verify: bool = True) -> None:
        self.paths = _shard_paths(paths)
        headers = [read_header(path) for path in self.paths]
        self.dtype = headers[0].dtype
        for path, header in zip(self.paths, headers, strict=True):
            if header.dtype != self.dtype:
                raise DataError(
                    f"{path}: ids of {header.dtype}, but {self.paths[0].name} has {self.dtype}. "
                    "They were made by different tokenizers; tokenize them together."
                )
            if verify:
                verify_shard(path)
        self._parts = [
            _mapped(path, header) for path, header in zip(self.paths, headers, strict=True)
        ]
        self._ends = np.cumsum([header.count for header in headers])
        self._first, self._last = 0, int(self._ends[-1])

    def __len__(self) -> int:
        return self._last - self._first

    def part(self, start: int, stop: int) -> TokenShards:
        """The ids from ``start`` to ``stop - 1``, without reading them."""
        view = copy.copy(self)
        view._first, view._last = self._first + start, self._first + stop
        return view

    @property
    def shape(self) -> tuple[int]:
        """(number of ids,)"""
        return (len(self),)

    def __getitem__(self, key: slice) -> np.ndarray:
        """A copy of the ids of a slice (step 1); it may reach over the ends of shards."""
        start, stop, step = key.indices(len(self))
        if step != 1:
            raise DataError(f"TokenShards: slices must have step 1, got {step}.")
        start, stop = start + self._first, stop + self._first
        pieces = [np.empty(0, self.dtype)]
        index = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            begin = int(self._ends[index]) - len(self._parts[index])
            piece = self._parts[index][start - begin : stop - begin]
            pieces.append(piece)
            start += len(piece)
            index += 1
        return np.concatenate(pieces)


def _mapped(path: Path, header: ShardHeader) -> np.ndarray:
    if not header.count:
        return np.empty(0, header.dtype)
    with reading_errors(path, DataError):
        return np.memmap(path, header.dtype, "r", HEADER_BYTES, (header.count,))


def _shard_paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[Path] = []
    for path in map(Path, given):
        with reading_errors(path, DataError):
            found.extend(_shards_of_folder(path) if path.is_dir() else [path])
    if not found:
        raise DataError(
            f"{', '.join(map(str, given)) or 'no path'}: no token shards (*{SUFFIX}) there. Make "
            f"them with: {command('tokenize', 'FILES', '--out', 'DIR')}"
        )
    return found


def _shards_of_folder(folder: Path) -> list[Path]:
    """The shards of a folder by name; if an index says which there are to be, just these."""
    shards = sorted(folder.glob(f"*{SUFFIX}"))
    if (folder / INDEX).is_file():
        tags = planned_tags(folder)
        if len(shards) != len(tags):
            raise DataError(
                f"{folder}: {len(shards)} of {len(tags)} shards are there. Tokenizing was not "
                "finished; run the same command again, it goes on where it was."
            )
        for path, tag in zip(shards, tags, strict=True):
            check_tag(path, tag)
    return shards


def planned_tags(folder: Path) -> list[int]:
    """What each shard of a folder is to be of, by its index; 0 where an older one does not say.

    Raises:
        DataError: the index is damaged.
    """
    index = folder / INDEX
    try:
        known = strict_json.loads(index.read_text(encoding="utf-8"))
        if "texts" not in known:
            return [0] * len(known["shards"])
        return [tag_of(known["tokenizer"], pieces) for pieces in known["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{index}: is damaged ({error!r:.200}). Tokenize the text again."
        ) from error


def check_tag(path: Path, tag: int) -> None:
    """Whether a shard is of what its folder's index says.

    Raises:
        DataError: it is of another text, place or tokenizer, or no shard.
    """
    found = read_header(path).tag
    if tag and found and found != tag:
        raise DataError(
            f"{path}: is of another text or tokenizer than {INDEX} says, or of another place in "
            "it. Delete it and tokenize the text again: only this shard is made anew."
        )
