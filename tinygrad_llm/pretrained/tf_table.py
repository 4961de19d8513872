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
from tinygrad_llm.pretrained.tf_record import damaged, read_varint

_FOOTER_BYTES, _MAGIC = 48, 0xDB4775248B80FB57
_TRAILER_BYTES = 5  # compression type and checksum
_UNCOMPRESSED = 0
MAX_BYTES = 1 << 20  # of an index, and of its keys at full length; GPT-2 XL's has 17 KB


def read_table(content: bytes, source: str) -> dict[bytes, bytes]:
    """All entries of a table file. Time and memory are bounded by its length.

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
        key_bytes, last = 0, None
        for block in _data_blocks(content, index_handle, source):
            for key, value in _entries(block):
                key_bytes += len(key)
                if key_bytes > MAX_BYTES or (last is not None and key <= last):
                    raise ValueError("its keys are too long, or out of order")
                table[key], last = value, key
    except ValueError as error:
        raise damaged(source, str(error)) from error
    return table


def unmask(masked: int) -> int:
    """A checksum from how TensorFlow stores it: rotated by 15 bits, and a constant added."""
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _data_blocks(content: bytes, index: tuple[int, int], source: str) -> Iterator[bytes]:
    """The blocks that the index block names; each lies behind the one before it."""
    reached = 0
    for _, value in _entries(_block(content, index, source)):
        (offset, size), _ = _read_handle(value, 0)
        if offset < reached:
            raise ValueError(f"a block begins at byte {offset}, within the one before it")
        reached = offset + size
        yield _block(content, (offset, size), source)


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
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes has {restarts} restarts")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        tail_end = position + unshared
        if shared > len(key) or tail_end + length > end:
            raise ValueError("an entry of a block is longer than the block")
        key = key[:shared] + block[position:tail_end]
        position = tail_end + length
        yield key, block[tail_end:position]
