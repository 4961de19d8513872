"""Reading and writing safetensors files, tensor by tensor.

    8 bytes     n, little-endian: the length of the header
    n bytes     JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    the rest    the tensors' bytes, one after the other: C order, little-endian

The ``safetensors`` library reads the header and decides what a valid file is. Three things it
cannot do without PyTorch, or not with a model's worth of memory, and they stand here:

    views       The library hands out copies and keeps what it mapped: twice the model. Here a
                tensor is a view of the mapped file, and its pages are given back after use.
    bfloat16    NumPy has no such type. Its bits are the upper half of float32's.
    writing     The library saves an array's memory as it lies: a transposed view, which is what
                this project's weights are in GPT-2's layout, would come out in the wrong order.

Source: the format's description in huggingface/safetensors, README.md, section "Format".
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_llm.backend import Array, strict_json, to_numpy
from tinygrad_llm.backend.files import file_size, open_atomic
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
_METADATA = "__metadata__"  # the header's only entry that is no tensor
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
_SHOWN = 500  # characters of what the library says, which may quote the file
_AGAIN = "The file is damaged or only partly downloaded; fetch or write it again."


@dataclass(frozen=True)
class _Entry:
    """A tensor of a file: its type in the format's words, its bits, and where they begin."""

    kind: str
    bits: np.ndarray
    begin: int


class SafetensorsFile:
    """A file of named arrays, mapped into memory. Everything is checked when it is opened.

    Attributes:
        path: the file.
        metadata: the file's own strings, such as ``{"format": "pt"}``.

    Raises:
        CheckpointError: no such file, not this format, shorter or longer than its header says, or
            with a tensor that NumPy cannot hold.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._map, self.metadata, contents = _open(self.path)
        self._entries: dict[str, _Entry] = {}
        begin = 8 + int.from_bytes(self._map[:8], "little")
        for name, kind, shape in contents:  # in the file they lie in this order, without gaps
            bits = _view(self.path, self._map, name, kind, shape, begin)
            self._entries[name] = _Entry(kind, bits, begin)
            begin += bits.nbytes

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._entries[name].bits.shape

    def read(self, name: str) -> np.ndarray:
        """A tensor: a read-only view of the file (bfloat16 comes as a float32 copy)."""
        entry = self._entries[name]
        return widen_bfloat16(entry.bits) if entry.kind == "BF16" else entry.bits

    def release(self, name: str) -> None:
        """Give back the memory behind a tensor's pages; they are read again when next used."""
        entry = self._entries[name]
        first = -(-entry.begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = entry.begin + entry.bits.nbytes - first
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 from the bits of bfloat16: the same number with sixteen more zero bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


_Contents = list[tuple[str, str, tuple[int, ...]]]  # name, type and shape, by place in the file


def _open(path: Path) -> tuple[mmap.mmap, dict[str, str], _Contents]:
    """The mapped file, its metadata and what it holds."""
    try:
        size = file_size(path)
        with open(path, "rb") as file:
            metadata, contents = _read_header(path, size)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                raise CheckpointError(f"{path}: was replaced while it was opened. Open it again.")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        why = error.strerror or error
        raise CheckpointError(f"{path}: cannot be read ({why}).") from error
    except ValueError as error:  # a name that no file can have
        raise CheckpointError(f"{str(path)!r}: cannot be a file's name ({error}).") from error
    return mapped, metadata, contents


def _read_header(path: Path, size: int) -> tuple[dict[str, str], _Contents]:
    from safetensors import SafetensorError, safe_open  # needed where a file is opened

    try:
        with safe_open(path, framework="numpy") as library:
            metadata = library.metadata() or {}
            parts = [(name, library.get_slice(name)) for name in library.offset_keys()]
            contents = [(name, part.get_dtype(), tuple(part.get_shape())) for name, part in parts]
        _refuse_names_that_come_twice(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path}: is no valid safetensors file ({str(error)[:_SHOWN]}; it has {size} bytes). "
            f"{_AGAIN}"
        ) from error
    return metadata, contents


def _refuse_names_that_come_twice(path: Path) -> None:
    """Raise a ValueError if there are some; the library silently takes the last of each."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        strict_json.loads(file.read(length))


def _view(
    path: Path, mapped: mmap.mmap, name: str, kind: str, shape: tuple[int, ...], begin: int
) -> np.ndarray:
    """A tensor's bits in the mapped file; the library has checked that they lie within it."""
    if kind not in DTYPES:
        raise CheckpointError(
            f"{path}: tensor {name!r} has type {kind!r}; known are {', '.join(DTYPES)}. "
            "Convert the file to one of these types."
        )
    flat = np.frombuffer(mapped, DTYPES[kind], count=math.prod(shape), offset=begin)
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: tensor {name!r} has {len(shape)} axes, or sizes, that NumPy cannot hold "
            f"({error}). {_AGAIN}"
        ) from error


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
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    offset = 0
    for name, array in tensors.items():
        kind = "BF16" if array.dtype.name == "bfloat16" else _NAMES.get(np.dtype(array.dtype))
        if kind is None or name == _METADATA:
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
