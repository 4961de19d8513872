"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, with NumPy alone.

Python's ``zlib.crc32`` has another polynomial, and a loop over bytes in Python would take minutes
for GPT-2. But a checksum is linear over bits: with S_n the matrix (32 x 32, of bits) that carries
the register past n zero bytes,

    register after A B  =  S_len(B) (register after A)  xor  (register after B, started at 0)

so the data is cut into lanes of equal length, which go forward side by side, four bytes a step,
and are joined pair by pair. A register of 0 stays 0 over zeros, so zeros in front fit any length.

Source: RFC 3720, appendix B.4 (test vectors); zlib's crc32_combine (the matrix).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

_POLYNOMIAL = 0x82F63B78  # bits reversed: the lowest bit is the highest power
_ONES = 0xFFFFFFFF
_LANES, _WORDS = 8192, 256  # lanes side by side, and the length of one in words of 4 bytes
_PIECE = 4 * _LANES * _WORDS


def crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """The CRC-32C of some bytes (of an array: of its memory, which must be in C order)."""
    octets = np.frombuffer(data, np.uint8)
    register = np.uint32(_ONES)
    for start in range(0, octets.size, _PIECE):
        piece = octets[start : start + _PIECE]
        register = _apply(_past_zeros(piece.size), register) ^ _from_zero(piece)
    return int(register) ^ _ONES


def unmask(masked: int) -> int:
    """A checksum from how TensorFlow stores it: rotated by 15 bits, and a constant added."""
    rotated = (masked - 0xA282EAD8) & _ONES
    return ((rotated >> 17) | (rotated << 15)) & _ONES


def _from_zero(piece: np.ndarray) -> np.uint32:
    """The register after a piece, started at 0."""
    lane_count = 1
    while lane_count < _LANES and lane_count * _WORDS * 4 < piece.size:
        lane_count *= 2
    padded = np.zeros(4 * lane_count * _WORDS, np.uint8)
    padded[padded.size - piece.size :] = piece
    steps = np.ascontiguousarray(padded.view("<u4").reshape(lane_count, _WORDS).T)
    low, high = _tables()
    register = np.zeros(lane_count, np.uint32)
    for words in steps:
        register ^= words
        register = low[register & 0xFFFF] ^ high[register >> 16]
    length = 4 * _WORDS
    while register.size > 1:
        register = _apply(_past_zeros(length), register[0::2]) ^ register[1::2]
        length *= 2
    return register[0]


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The register past four zero bytes, by its low half and by its high half."""
    half = np.arange(1 << 16, dtype=np.uint32)
    return _apply(_past_zeros(4), half), _apply(_past_zeros(4), half << np.uint32(16))


def _apply(matrix: np.ndarray, x: Any) -> Any:
    """The matrix (32 columns, each a word of bits) times the bits of each element of ``x``."""
    out = x * np.uint32(0)
    for bit in range(32):
        out = out ^ ((x >> np.uint32(bit)) & np.uint32(1)) * matrix[bit]
    return out


@cache
def _past_zeros(n: int) -> np.ndarray:
    """The matrix that carries a register past ``n`` zero bytes; uint32 (32,) of columns."""
    if n == 0:
        return np.uint32(1) << np.arange(32, dtype=np.uint32)
    if n == 1:
        one_bit = np.concatenate([[_POLYNOMIAL], 1 << np.arange(31)]).astype(np.uint32)
        matrix = one_bit
        for _ in range(3):
            matrix = _apply(matrix, matrix)  # 2, 4, 8 bits
        return matrix
    half = _past_zeros(n // 2)
    return _apply(_past_zeros(n % 2), _apply(half, half))
