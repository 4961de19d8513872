"""OpenAI's GPT-2 checkpoint, a TensorFlow "bundle", read without TensorFlow.

A bundle is an index, ``model.ckpt.index`` (see `tf_table`), that maps each variable's name to a
record in protocol-buffer form, and the raw numbers in ``model.ckpt.data-00000-of-00001``:

    BundleHeaderProto, under the empty name:   1 num_shards   2 endianness
    BundleEntryProto:  1 dtype   2 shape   3 shard_id   4 offset   5 size   6 crc32c (masked)
    TensorShapeProto:  2 dim (repeated), each:  1 size

How a record is laid out: `tf_record`.

Sources: tensorflow/core/protobuf/tensor_bundle.proto, tensor_shape.proto, util/tensor_bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_llm.backend.files import file_size
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.pretrained.gpt2_layout import from_openai
from tinygrad_llm.pretrained.tf_record import Record, damaged
from tinygrad_llm.pretrained.tf_table import MAX_BYTES, crc32c, read_table, unmask

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
    """One variable: the bytes in its data file, the array they are, and their checksum."""

    raw: np.ndarray
    array: np.ndarray
    checksum: int


class TensorflowCheckpoint:
    """The variables of a checkpoint under Hugging Face's names, memory-mapped.

    A leading axis of length 1 (OpenAI's linear layers are convolutions of width 1) is dropped.

    Args:
        index: the file ``*.index``; the data files stand beside it.

    Raises:
        CheckpointError: a file is missing, damaged, too large for an index, compressed or
            big-endian; a variable lies outside of its data file, or two have one name.
    """

    def __init__(self, index: Path) -> None:
        self.path = index
        table = read_table(_read_index(index), str(index))
        header = Record(table.pop(b"", b""), str(index))
        if header.number(2) == _BIG_ENDIAN:
            raise CheckpointError(f"{index}: was written on a big-endian machine; not supported.")
        self._shards = _open_shards(index, header.number(1) or 1)
        self._variables: dict[str, _Variable] = {}
        for key, record in table.items():
            name = from_openai(key.decode("utf-8", "replace"))
            if name in self._variables:
                raise damaged(str(index), f"there are two variables for {name!r}")
            self._variables[name] = self._variable(key, Record(record, str(index)))
        self._check_extent()

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._variables[name].array.shape

    def read(self, name: str) -> np.ndarray:
        """A tensor: a read-only view of the file, its checksum verified.

        Raises:
            CheckpointError: the checksum is wrong.
        """
        found = self._variables[name]
        if crc32c(found.raw) != found.checksum:
            raise damaged(str(self.path), f"the checksum of variable {name!r} is wrong")
        return found.array

    def release(self, name: str) -> None:
        """Nothing to give back: a view's pages leave memory with the mapping."""

    def _variable(self, name: bytes, record: Record) -> _Variable:
        kind, shard, offset, size = (record.number(field) for field in (1, 3, 4, 5))
        dims = [
            Record(dim, str(self.path)).number(1)
            for dim in Record(record.content(2), str(self.path)).contents(2)
        ]
        if kind not in _DTYPES:
            raise CheckpointError(f"{self.path}: variable {name!r} has the unknown type {kind}.")
        there = self._shards[shard].size if shard < len(self._shards) else -1
        if offset + size > there:
            raise damaged(
                str(self.path),
                f"variable {name!r} should be bytes {offset} to {offset + size} of data file "
                f"{shard}, which has {there}",
            )
        raw = self._shards[shard][offset : offset + size]
        shape = dims[1:] if len(dims) == 3 and dims[0] == 1 else dims
        try:
            array = raw.view(_DTYPES[kind]).reshape(shape)
        except (ValueError, OverflowError) as error:  # another size, or none that NumPy can hold
            raise damaged(str(self.path), f"variable {name!r}: {error}") from error
        return _Variable(raw, array, unmask(record.four_bytes(6)))

    def _check_extent(self) -> None:
        """Variables do not share bytes, so all together are no larger than the data files."""
        needed = sum(variable.raw.size for variable in self._variables.values())
        there = sum(shard.size for shard in self._shards)
        if needed > there:
            raise damaged(
                str(self.path), f"its variables are {needed} bytes, its data files {there}"
            )


def _read_index(index: Path) -> bytes:
    try:
        size = file_size(index)
        if size > MAX_BYTES:
            raise damaged(str(index), f"an index has at most {MAX_BYTES} bytes, here are {size}")
        return index.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{index}: cannot be read ({error.strerror}).") from error


def _open_shards(index: Path, count: int) -> list[np.ndarray]:
    """The data files beside an index, mapped into memory as bytes."""
    stem = str(index).removesuffix(".index")
    shards: list[np.ndarray] = []
    for number in range(count):
        path = Path(f"{stem}.data-{number:05d}-of-{count:05d}")
        try:
            file_size(path)
            shards.append(np.asarray(np.memmap(path, np.uint8, mode="r")))
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise CheckpointError(
                f"{path}: the weights that belong to {index.name} cannot be read ({error}). "
                "Put both files into one folder."
            ) from error
    return shards
