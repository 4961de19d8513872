"""Tiles of the attention kernels: which to take by default, which to try, which fit the chip.

The first of each list is the default. With Triton 3.6 to 3.9 no default spills a register on sm_80,
sm_90 or sm_100 (tests/kernels/test_compiling.py), and no other tile does on sm_90
(test_attention_tiles.py). docs/write_your_own_kernel.md, "Tiles of attention", says how the
defaults for sm_90 were chosen.

Three generations: sm_90 multiplies at least 64 rows by four warps, and its defaults give every four
warps 64 rows. On sm_100 accumulators live in a memory of their own. All others (sm_80 to sm_89,
sm_120) hold operands and accumulators in registers; the smaller of them have 99 KiB of shared
memory, and every list has a tile for these.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import triton

from .._descriptors import why_no_descriptor
from .._runtime import capability, cdiv, is_host, shared_memory_limit
from .._types import Array
from ..errors import KernelError
from ..tuning import Config, choose
from .heads import ALIGNMENT, block_d

TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])
REDUCTIONS = 3 << 10  # bytes for logsum, delta, barriers and for maxima and sums across warps
Tile = tuple[int, int, int, int, int]  # BLOCK_M, BLOCK_N, num_warps, num_stages, CHUNK


def configs(kernel: str, q: Array, dropout: bool) -> list[Config]:
    """The configurations of a kernel for arrays like q (B, H, T, D), the default first.

    kernel: "forward", "described" for the forward kernel with descriptors, "keys" for dK and dV, or
        "queries" for dQ
    Raises KernelError where the shared memory of the chip holds none.
    """
    return _fitting(kernel, q.itemsize, q.shape[3], capability(q), shared_memory_limit(q), dropout)


def forward_configs(q: Array, k: Array, v: Array, dropout: bool) -> list[Config]:
    """Those of the forward kernel, which also say how it reads and whether its programs stay.

    q: (B, H, T, D); k, v: (B, H, S, D), as the kernel gets them
    DESCRIBED: 1 where q, k and v are read through tensor descriptors. Dropout takes the registers
        that these save.
    PERSISTENT: so many programs per multiprocessor take all blocks of queries; 0: one for each
    The default is what an H200 found fastest: for heads of 64 and 1024 keys pointers, for 4096 keys
    and for heads of 128 descriptors.
    """
    chip = capability(q)
    pointers = [{**c, "DESCRIBED": 0, "PERSISTENT": 0} for c in configs("forward", q, dropout)]
    if dropout or q.itemsize != 2 or _generation(chip) == 80 or any(
            why_no_descriptor(a, chip) for a in (q, k, v)):
        return pointers
    described = [{**c, "DESCRIBED": 1, "PERSISTENT": 0} for c in configs("described", q, dropout)]
    # A program that stays remembers more, for which four warps and 128 columns have no registers.
    few = q.shape[3] <= 64
    tile = next((c for c in described if few or c["num_warps"] == 8), described[0])
    stay = {**tile, "PERSISTENT": 2 if tile["num_warps"] == 4 else 1}
    if chip == 90 and block_d(q.shape[3]) == 64 and k.shape[2] <= 2048:
        return [pointers[0], *described, stay]
    return [*described, stay, pointers[0]]


def _generation(chip: int) -> int:
    return chip if chip == 90 else 100 if 100 <= chip < 120 else 80


@functools.cache
def _fitting(kernel: str, itemsize: int, d: int, chip: int, limit: int,
             dropout: bool) -> list[Config]:
    generation = _generation(chip)
    width = block_d(cdiv(d, ALIGNMENT) * ALIGNMENT)
    tiles = _TILES[kernel](width, itemsize, generation, dropout)
    found = [t for t in tiles if shared_bytes(kernel, t, itemsize, generation) <= limit]
    if not found:
        need = min(shared_bytes(kernel, t, itemsize, generation) for t in tiles)
        raise KernelError(f"head size {d} in elements of {itemsize} bytes needs {need} "
                          f"bytes of shared memory, a program has {limit} on this chip; use the "
                          "array code")
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages", "CHUNK")
    # float32 is near the limit of registers everywhere, and sm_100 has room: spill none there for
    # the sake of one more program at a time
    more = {"max_registers": 255} if itemsize == 4 or generation == 100 else {}
    return [{**dict(zip(names, t, strict=True)), **more} for t in found]


def shared_bytes(kernel: str, tile: Tile, itemsize: int, generation: int) -> int:
    """At most so many bytes of shared memory a kernel takes (see the test of this name).

    In "forward" and "queries" keys and values pass by in num_stages copies, in "keys" queries and
    their output gradients do.
    """
    block_m, block_n, _, stages, chunk = tile
    resident, passing, again = {"forward": (block_m, block_n, 0),
                                "described": (block_m, block_n, 0),
                                "queries": (2 * block_m, block_n, 1),
                                "keys": (2 * block_n, block_m, 2)}[kernel]
    copies = 2 * stages + (again if generation == 100 else 0)  # it keeps those that dS multiplies
    total = (resident + copies * passing) * chunk * itemsize
    return (2 * total if itemsize == 4 else total) + REDUCTIONS


def choose_and_run(kernel: str, key: tuple[object, ...], tiles: list[Config], q: Array,
                   run: Callable[[Config], None]) -> None:
    """Run with the default, or on a GPU with the configuration that was found best."""
    run(tiles[0] if is_host(q) else choose(kernel, key, tiles, tiles[0], run))


def _forward(width: int, itemsize: int, generation: int, dropout: bool) -> list[Tile]:
    if itemsize == 4:
        return _forward_float32(width, generation)
    if width <= 64:
        large = [(128, 64, 8, 3, width), (128, 64, 8, 2, width), (128, 128, 8, 2, width),
                 (128, 128, 8, 3, width)]
        small = [(64, 64, 4, 2, width), (64, 64, 4, 3, width), (64, 128, 4, 2, width)]
        if dropout:  # its random bits take registers
            return [*small, *large] if width < 64 else [*large, *small]
        return [*large, (128, 64, 4, 3, width), *small]
    if width > 128:
        return [(64, 64, 8, 2, 256), (64, 64, 8, 2, 128), (32, 32, 4, 2, 256)]
    return [(128, 64, 8, 3, 128), (128, 64, 8, 2, 128), (64, 64, 4, 3, 128), (64, 64, 4, 2, 128),
            (64, 32, 4, 2, 128)]


def _described(width: int, itemsize: int, generation: int, dropout: bool) -> list[Tile]:
    """For 16-bit elements, without dropout."""
    if generation == 100:
        stages = 2 if width != 128 else 3
        return [(64 if width > 128 else 128, 64, 8, stages, width), (64, 128, 4, 2, width)]
    if width > 128:
        return [(64, 64, 8, 2, 256), (128, 64, 8, 2, 256), (64, 32, 4, 2, 256)]
    if width > 64:
        return [(128, 64, 4, 2, 128), (128, 128, 8, 2, 128), (128, 64, 8, 3, 128),
                (128, 32, 8, 3, 128), (64, 64, 4, 2, 128)]
    if width < 64:
        return [(128, 64, 4, 3, width), (64, 128, 4, 2, width), (128, 64, 8, 2, width),
                (128, 128, 8, 3, width)]
    return [(64, 128, 4, 2, 64), (128, 128, 4, 3, 64), (128, 64, 4, 3, 64), (128, 64, 8, 2, 64),
            (128, 128, 8, 3, 64)]


def _forward_float32(width: int, generation: int) -> list[Tile]:
    """Three products in place of one take three times the registers: small tiles, narrow chunks."""
    if width > 64:
        tiles = [(64, 32, 4, 2, 32)] if generation == 90 else []
        return [*tiles, (32, 32, 4, 2, 32), (32, 16, 4, 2, 64)]
    tiles = [(64, 32, 4, 2, width)] if generation == 90 or width <= 32 else []
    return [*tiles, (32, 32, 4, 2, width), (16, 16, 4, 1, width)]


def _keys(width: int, itemsize: int, generation: int, dropout: bool) -> list[Tile]:
    """BLOCK_N keys stay, BLOCK_M queries pass by at a time."""
    # Not eight warps for 64 keys of float32: where the loop is pipelined, the second four read
    # columns of dy and q from beyond shared memory on sm_90 (Triton 3.6, seen on an H200).
    if itemsize == 4 and width > 64:
        return [(16, 64, 4, 2, 32), (16, 32, 4, 1, 32)]
    if itemsize == 4:
        return [(16, 64, 4, 2, 16) if width == 16 else (16, 32, 4, 2, width),
                (16, 16, 4, 1, width)]
    if width <= 64:
        return [(64, 128, 8, 2, width) if generation == 90 else (64, 64, 8, 2, width),
                (64, 128, 8, 3, width), (64, 64, 4, 2, width), (64, 64, 4, 3, width),
                (32, 128, 8, 2, width), (32, 64, 4, 3, width)]
    if width > 128:
        return [(32, 64, 8, 2, 256) if generation == 100 else (32, 32, 8, 1, 256),
                (16, 32, 8, 2, 256)]
    if generation != 90:
        return [(64, 64, 8, 2, 128), (32, 128, 8, 2, 128), (64, 128, 8, 2, 128),
                (32, 64, 8, 2, 128), (32, 64, 4, 2, 128)]
    tiles = [(32, 128, 8, 2, 128), (32, 64, 4, 2, 128)]
    if dropout or TRITON >= (3, 9):  # there, 64 queries take a few registers too many
        return tiles
    return [(64, 128, 8, 2, 128), *tiles]


def _queries(width: int, itemsize: int, generation: int, dropout: bool) -> list[Tile]:
    """BLOCK_M queries stay, BLOCK_N keys pass by at a time."""
    if itemsize == 4 and width > 64:
        return [(64, 32, 8, 1, 64) if generation == 100 else (32, 16, 4, 2, 32),
                (16, 16, 4, 1, 32)]
    if itemsize == 4:
        return [(32, 16, 4, 2, min(width, 32)) if generation == 80 else (64, 32, 8, 1, width),
                (16, 16, 4, 1, width)]
    if width > 128:
        return [(128, 32, 8, 2, 256) if generation == 90 else (64, 32, 8, 2, 256),
                (32, 32, 4, 2, 256)]
    wide = [(128, 128, 8, 2, width)] if width <= 64 else []
    return [(128, 64, 8, 2, width) if generation == 90 else (64, 64, 8, 2, width),
            (128, 64, 8, 3, width), *wide, (128, 32, 8, 2, width), (64, 64, 4, 2, width),
            (64, 32, 8, 2, width), (64, 32, 4, 2, width)]


_TILES: dict[str, Callable[[int, int, int, bool], list[Tile]]] = {
    "forward": _forward, "described": _described, "keys": _keys, "queries": _queries}
