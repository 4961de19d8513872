"""The index of a TensorFlow checkpoint: a sorted table of keys and values, in LevelDB's format.

    file    = data blocks, meta block, index block, footer
    footer  = handle of the meta block, handle of the index block, zeros up to 40 bytes, magic
    handle  = offset, size                                           (varints)
    block   = entries, restart offsets (uint32 each), their number (uint32)
    entry   = shared, unshared, value length (varints), key tail, value
    after a block: 1 byte compression, 4 bytes masked CRC-32C of the block and that byte

Neighbouring keys begin alike, so an entry stores only how many bytes it shares with the key before
it, and the rest. The index block's values are the handles of the data blocks.

Sources: google/leveldb, doc/table_format.md; tensorflow/core/lib/io/table.
"""

from __future__ import annotations

from collections.abc import Iterator

from google_crc32c import value as crc32c

from tinygrad_llm.errors import CheckpointError

_FOOTER_BYTES, _MAGIC = 48, 0xDB4775248B80FB57
_TRAILER_BYTES = 5  # compression type and checksum
_UNCOMPRESSED = 0


def read_table(content: bytes, source: str) -> dict[bytes, bytes]:
    """All entries of a table file.

    Args:
        content: the whole file.
        source: its name, for messages.

    Raises:
        CheckpointError: not such a file, damaged, cut off, or compressed.
    """
    footer = content[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or int.from_bytes(footer[40:], "little") != _MAGIC:
        raise damaged(source, "the mark of a TensorFlow index is missing at its end")
    try:
        _, position = _read_handle(footer, 0)
        index_handle, _ = _read_handle(footer, position)
        table: dict[bytes, bytes] = {}
        for _, value in _entries(_block(content, index_handle, source)):
            handle, _ = _read_handle(value, 0)
            table.update(_entries(_block(content, handle, source)))
    except (IndexError, ValueError) as error:
        raise damaged(source, str(error)) from error
    return table


def damaged(source: str, why: str) -> CheckpointError:
    """The error for a file whose content contradicts itself."""
    return CheckpointError(
        f"{source}: is damaged or only partly downloaded ({why}). Fetch it again."
    )


def unmask(masked: int) -> int:
    """A checksum from how TensorFlow stores it: rotated by 15 bits, and a constant added."""
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An integer in groups of seven bits, lowest first, and the position after it.

    Raises:
        IndexError: the data ends within it.
    """
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(content: bytes, handle: tuple[int, int], source: str) -> bytes:
    offset, size = handle
    end = offset + size
    if end + _TRAILER_BYTES > len(content):
        raise damaged(source, f"a block reaches to byte {end} of {len(content)}")
    if content[end] != _UNCOMPRESSED:
        raise CheckpointError(
            f"{source}: a block of the index is compressed, which TensorFlow does not do for "
            "checkpoints. Write the checkpoint again with tf.train.Saver."
        )
    stored = int.from_bytes(content[end + 1 : end + _TRAILER_BYTES], "little")
    if crc32c(content[offset : end + 1]) != unmask(stored):
        raise damaged(source, "the checksum of a block of the index is wrong")
    return content[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) pairs of a block, each key completed from the one before it."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length
