"""A second, independent implementation of TensorFlow's checkpoint files: the writing side."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np


def crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(n: int) -> bytes:
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def entry_proto(array: np.ndarray, offset: int, shard: int = 0) -> bytes:
    """BundleEntryProto: dtype, shape, shard, offset, size, crc32c; proto3 leaves out zeros."""
    dims = b"".join(
        b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in array.shape)
    )
    raw = array.tobytes()
    out = b"\x08\x01" + b"\x12" + varint(len(dims)) + dims
    if shard:
        out += b"\x18" + varint(shard)
    if offset:
        out += b"\x20" + varint(offset)
    return out + b"\x28" + varint(len(raw)) + b"\x35" + struct.pack("<I", masked(raw))


def block(entries: list[tuple[bytes, bytes]], restart_every: int = 16) -> bytes:
    """A block of a LevelDB table: keys share what they can with the key before."""
    out, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % restart_every:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    return out + b"".join(struct.pack("<I", r) for r in restarts) + struct.pack("<I", len(restarts))


def table(
    entries: list[tuple[bytes, bytes]],
    per_block: int = 7,
    damage: Callable[[bytes], bytes] = bytes,
    checksum: Callable[[bytes], int] = masked,
) -> bytes:
    """The whole index file, in several data blocks; ``damage`` changes each before its checksum."""
    out, index = b"", []

    def add(content: bytes) -> bytes:
        nonlocal out
        content = damage(content)
        handle = varint(len(out)) + varint(len(content))
        out += content + b"\x00" + struct.pack("<I", checksum(content + b"\x00"))
        return handle

    for start in range(0, len(entries), per_block):
        part = entries[start : start + per_block]
        index.append((part[-1][0], add(block(part, restart_every=3))))
    meta_handle, index_handle = add(block([])), add(block(index, restart_every=1))
    footer = (meta_handle + index_handle).ljust(40, b"\x00")
    return out + footer + struct.pack("<Q", 0xDB4775248B80FB57)


def openai_variables(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hugging Face's names and shapes turned into OpenAI's."""
    out = {}
    for name, array in weights.items():
        parts = name.split(".")
        if parts[0] == "h":
            parts = [f"h{parts[1]}", *parts[2:]]
        if parts[0] in ("wte", "wpe"):
            parts = parts[:1]
        elif parts[-1] == "bias":
            parts[-1] = "b"
        else:
            parts[-1] = "g" if "ln_" in parts[-2] else "w"
        is_linear = parts[-1] == "w"
        out["/".join(["model", *parts])] = array[None] if is_linear else array
    return out


def write_checkpoint(
    folder: Path, weights: dict[str, np.ndarray], hparams: dict, shards: int = 1
) -> Path:
    """A folder as OpenAI published it, or with the variables dealt out to several data files."""
    folder.mkdir(parents=True, exist_ok=True)
    header = b"\x08" + varint(shards) + b"\x1a\x02\x08\x01"  # endianness 0 left out; version
    entries, data = [(b"", header)], [b""] * shards
    for number, (name, array) in enumerate(sorted(openai_variables(weights).items())):
        shard = number % shards
        entries.append((name.encode(), entry_proto(array, len(data[shard]), shard)))
        data[shard] += array.tobytes()
    (folder / "model.ckpt.index").write_bytes(table(entries))
    for shard, content in enumerate(data):
        (folder / f"model.ckpt.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")
    return folder
