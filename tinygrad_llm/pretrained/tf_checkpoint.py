"""OpenAI's GPT-2 checkpoint, a TensorFlow "bundle", read without TensorFlow.

A bundle is an index, ``model.ckpt.index`` (see `tf_table`), that maps each variable's name to a
record in protocol-buffer form, and the raw numbers in ``model.ckpt.data-00000-of-00001``:

    BundleHeaderProto, under the empty name:   1 num_shards   2 endianness
    BundleEntryProto:  1 dtype   2 shape   3 shard_id   4 offset   5 size   6 crc32c (masked)
    TensorShapeProto:  2 dim (repeated), each:  1 size

A record is a run of fields: a varint of (number << 3 | kind), then the value: kind 0 a varint,
1 eight bytes, 2 a length and as many bytes, 5 four bytes. Unknown fields are skipped.

Sources: tensorflow/core/protobuf/tensor_bundle.proto, tensor_shape.proto, util/tensor_bundle.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.pretrained.gpt2_layout import from_openai
from tinygrad_llm.pretrained.tf_table import crc32c, damaged, read_table, read_varint, unmask

_DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    19: np.dtype("<f2"),
}
_BIG_ENDIAN = 1


@dataclass(frozen=True)
class _Variable:
    """Where one variable stands, and what it is."""

    dtype: np.dtype
    shape: tuple[int, ...]
    shard: int
    offset: int
    checksum: int


class TensorflowCheckpoint:
    """The variables of a checkpoint under Hugging Face's names, memory-mapped.

    A leading axis of length 1 (OpenAI's linear layers are convolutions of width 1) is dropped.

    Args:
        index: the file ``*.index``; the data files stand beside it.

    Raises:
        CheckpointError: a file is missing, damaged or too short.
    """

    def __init__(self, index: Path) -> None:
        self.path = index
        try:
            table = read_table(index.read_bytes(), str(index))
        except OSError as error:
            raise CheckpointError(f"{index}: cannot be read ({error.strerror}).") from error
        header = parse_record(table.pop(b"", b""), str(index))
        if header[2][-1:] == [_BIG_ENDIAN]:
            raise CheckpointError(f"{index}: was written on a big-endian machine; not supported.")
        self._shards = _open_shards(index, header[1][-1] if header[1] else 1)
        self._variables = {
            from_openai(name.decode("utf-8", "replace")): self._variable(name, record)
            for name, record in table.items()
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._variables[name].shape

    def read(self, name: str) -> np.ndarray:
        """A tensor: a read-only view of the file, its checksum verified.

        Raises:
            CheckpointError: the checksum is wrong.
        """
        found = self._variables[name]
        size = math.prod(found.shape) * found.dtype.itemsize
        raw = self._shards[found.shard][found.offset : found.offset + size]
        if crc32c(raw) != found.checksum:
            raise damaged(str(self.path), f"the checksum of variable {name!r} is wrong")
        return raw.view(found.dtype).reshape(found.shape)

    def release(self, name: str) -> None:
        """Nothing to give back: a view's pages leave memory with the mapping."""

    def _variable(self, name: bytes, record: bytes) -> _Variable:
        fields = parse_record(record, str(self.path))
        kind, shard, offset, size = (fields[n][-1] if fields[n] else 0 for n in (1, 3, 4, 5))
        sizes = parse_record(fields[2][-1], str(self.path))[2] if fields[2] else []
        dims = [(parse_record(dim, str(self.path))[1] or [0])[-1] for dim in sizes]
        if kind not in _DTYPES:
            raise CheckpointError(f"{self.path}: variable {name!r} has the unknown type {kind}.")
        dtype = _DTYPES[kind]
        there = self._shards[shard].size if shard < len(self._shards) else -1
        if math.prod(dims) * dtype.itemsize != size or offset + size > there:
            raise damaged(
                str(self.path),
                f"variable {name!r} of shape {dims} should be bytes {offset} to {offset + size} "
                f"of data file {shard}, which has {there}",
            )
        shape = tuple(dims[1:] if len(dims) == 3 and dims[0] == 1 else dims)
        masked = int.from_bytes(fields[6][-1], "little") if fields[6] else 0
        return _Variable(dtype, shape, shard, offset, unmask(masked))


def parse_record(data: bytes, source: str) -> dict[int, list[Any]]:
    """The fields of a protocol-buffer record: number -> values in order; absent ones are empty.

    Raises:
        CheckpointError: the record is cut off or of an unknown form.
    """
    fields: dict[int, list[Any]] = defaultdict(list)
    position = 0
    try:
        while position < len(data):
            tag, position = read_varint(data, position)
            if tag & 7 == 0:
                value, position = read_varint(data, position)
                fields[tag >> 3].append(value)
                continue
            length = {1: 8, 5: 4}.get(tag & 7)
            if tag & 7 == 2:
                length, position = read_varint(data, position)
            if length is None or position + length > len(data):
                raise damaged(source, "a record of the index does not end where it should")
            fields[tag >> 3].append(data[position : position + length])
            position += length
    except IndexError as error:
        raise damaged(source, "a record of the index is cut off") from error
    return fields


def _open_shards(index: Path, count: int) -> list[np.ndarray]:
    """The data files beside an index, mapped into memory as bytes."""
    stem = str(index).removesuffix(".index")
    shards: list[np.ndarray] = []
    for number in range(count):
        path = Path(f"{stem}.data-{number:05d}-of-{count:05d}")
        try:
            shards.append(np.memmap(path, np.uint8, mode="r"))
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise CheckpointError(
                f"{path}: the weights that belong to {index.name} cannot be read ({error}). "
                "Put both files into one folder."
            ) from error
    return shards
