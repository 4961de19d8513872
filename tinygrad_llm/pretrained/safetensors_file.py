"""Reading and writing safetensors files, tensor by tensor.

The format is small enough to read in full:

    8 bytes     n, little-endian: the length of the header
    n bytes     JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    the rest    the tensors' bytes, C order, little-endian; offsets count from here

The ``safetensors`` library reads and writes the same files (the tests compare with it). But
loading with it takes twice the memory of the model, since it hands out copies and keeps what it
mapped. Here a tensor is a view of the mapped file, and its pages are given back once it is copied.
And the library saves an array's memory as it lies: a transposed view, which is what this project's
weights are in GPT-2's layout, would come out in the wrong order. Here each is written in C order.

Source: the format's description in huggingface/safetensors, README.md, section "Format".
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.backend import Array, to_numpy
from tinygrad_llm.backend.files import open_atomic
from tinygrad_llm.errors import CheckpointError

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
Entry = tuple[str, tuple[int, ...], int, int]  # type, shape, first byte, byte behind the last
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
_MAX_HEADER = 100_000_000  # the library's own limit
_AGAIN = "The file is damaged or only partly downloaded; fetch or write it again."


class SafetensorsFile:
    """A file of named arrays, mapped into memory. Everything is checked when it is opened.

    Attributes:
        path: the file.
        metadata: the file's own strings, such as ``{"format": "pt"}``.

    Raises:
        CheckpointError: no such file, not this format, or shorter or longer than its header says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        header, self._start, size = _read_header(self.path)
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self._entries = {name: _entry(self.path, name, info) for name, info in header.items()}
        _check_extent(self.path, self._entries, size - self._start)
        with open(self.path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._entries[name][1]

    def read(self, name: str) -> np.ndarray:
        """A tensor: a read-only view of the file (bfloat16 comes as a float32 copy)."""
        kind, shape, begin, _ = self._entries[name]
        flat = np.frombuffer(
            self._map, DTYPES[kind], count=math.prod(shape), offset=self._start + begin
        )
        return (widen_bfloat16(flat) if kind == "BF16" else flat).reshape(shape)

    def release(self, name: str) -> None:
        """Give back the memory behind a tensor's pages; they are read again when next used."""
        _, _, begin, end = self._entries[name]
        first = -(-(self._start + begin) // mmap.PAGESIZE) * mmap.PAGESIZE
        length = self._start + end - first
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 from the bits of bfloat16: the same number with sixteen more zero bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The parsed header, where the data starts, and the file's size."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise CheckpointError(
                    f"{path}: a safetensors file starts with its header's length, but here that "
                    f"would be {length} bytes in a file of {size}. {_AGAIN}"
                )
            header = json.loads(file.read(length).decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is not JSON ({error}). {_AGAIN}") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise CheckpointError(f"{path}: the header is not a table of tensors. {_AGAIN}")
    return header, 8 + length, size


def _entry(path: Path, name: str, info: Any) -> Entry:
    """One entry of the header, its parts checked against each other."""
    try:
        kind, shape = info["dtype"], tuple(info["shape"])
        begin, end = info["data_offsets"]
        sane = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        sane = False
    if not sane:
        raise CheckpointError(f"{path}: no valid dtype, shape and offsets for {name!r}. {_AGAIN}")
    if kind not in DTYPES:
        raise CheckpointError(
            f"{path}: tensor {name!r} has type {kind!r}; known are {', '.join(DTYPES)}. "
            "Convert the file to one of these types."
        )
    if end - begin != math.prod(shape) * DTYPES[kind].itemsize:
        raise CheckpointError(
            f"{path}: tensor {name!r} of type {kind} and shape {list(shape)} needs "
            f"{math.prod(shape) * DTYPES[kind].itemsize} bytes, has {end - begin}. {_AGAIN}"
        )
    return kind, shape, begin, end


def _check_extent(path: Path, entries: Mapping[str, Entry], size: int) -> None:
    """The tensors must lie one after the other and fill the file exactly."""
    reached = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != reached:
            raise CheckpointError(
                f"{path}: tensor {name!r} starts at byte {begin}, expected {reached}. {_AGAIN}"
            )
        reached = end
    if reached != size:
        raise CheckpointError(
            f"{path}: the header announces {reached} bytes of tensors, the file has {size}. "
            f"{_AGAIN}"
        )


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays into one file, whole or not at all; a file of that name is replaced.

    Args:
        path: the file.
        tensors: NumPy or CuPy arrays by name, of any strides; one at a time is made contiguous.
        metadata: strings to keep in the header.

    Raises:
        CheckpointError: the file cannot be written (a full disk), or an array's type has no
            place in the format. The old file is untouched.
    """
    path = Path(path)
    names = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)  # keeps them aligned
    header = _header_bytes(path, {name: tensors[name] for name in names}, metadata)
    try:
        with open_atomic(path) as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name in names:
                array = np.ascontiguousarray(to_numpy(tensors[name]))
                if array.size:
                    file.write(array.reshape(-1).view(np.uint8).data)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}). Nothing was changed; check the free "
            "space and the permissions of the folder."
        ) from error


def _header_bytes(
    path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None
) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, array in tensors.items():
        kind = "BF16" if array.dtype.name == "bfloat16" else _NAMES.get(np.dtype(array.dtype))
        if kind is None:
            raise CheckpointError(
                f"{path}: the format has no place for {name!r}, an array of {array.dtype}."
            )
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    return text + b" " * (-len(text) % 8)  # the data then starts at a multiple of 8
