"""Every kernel compiled for three chips: no spills, shared memory within the chip's limit.

The kernels of attention take most of the time: every head size is marked slow.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from tinygrad_llm.kernels import _runtime, catalog
from tinygrad_llm.kernels.attention_kernel import configs

from tests.kernels.conftest import DTYPES
from tinygrad_llm import kernels

CHIPS = (80, 90, 100)
ATTENTION = {
    "attention_forward_kernel",
    "attention_backward_keys_kernel",
    "attention_backward_queries_kernel",
}
MULTIPLY = {*ATTENTION, "attention_backward_one_pass_kernel"}  # the last: 16-bit, from sm_90
# Exact and ragged for each width of a tile: 16, 32, 64, 128, 256. Others are rounded up to 16.
HEAD_SIZES = (16, 32, 48, 64, 96, 128, 144, 208, 256)


def _check(rows):
    """Prints the table, by Triton's version; every row fits, attention on matrix units."""
    print("\n" + kernels.table(rows))
    misfits = [(name, r) for name, r in rows if not r.fits]
    assert not misfits, f"registers spill, or shared memory does not suffice: {misfits}"
    # a kernel of a few registers is one that the compiler has thrown away
    odd = [
        (name, r)
        for name, r in rows
        if (r.name in MULTIPLY) != r.matrix_units or (r.matrix_units and r.registers < 32)
    ]
    assert not odd, f"matrix units: {odd}"


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("dtype", "heads"), [("bfloat16", (64, 128)), ("float16", (64,)), ("float32", (64, 128))]
)
def test_no_kernel_spills_in_its_default_configuration(chip, dtype, heads):
    rows = kernels.resource_table((chip,), dtype, heads)
    _check(rows)
    assert {r.chip for _, r in rows} == {chip}
    assert {r.name for _, r in rows} >= ATTENTION


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("chip", CHIPS)
def test_attention_of_every_head_size(chip, dtype, causal):
    _check(catalog.measure(catalog.attention_launches(dtype, HEAD_SIZES, causal), (chip,)))


@pytest.mark.parametrize(
    ("chip", "dtype", "d"), [(86, "bfloat16", 128), (120, "bfloat16", 256), (89, "float32", 64)]
)
def test_smaller_chips_take_smaller_tiles(chip, dtype, d):
    """99 KiB of shared memory in place of 163 or 227."""
    _check(catalog.measure(catalog.attention_launches(dtype, (d,)), (chip,)))


def test_a_chip_too_small_for_every_tile_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setitem(_runtime.SHARED_MEMORY, 90, 4096)
    q = np.ones((1, 1, 8, 256), np.float32)
    reason = kernels.attention.supports(q, q, q)
    assert "head size 256 in elements of 4 bytes needs" in reason
    assert "a program has 4096 on this chip; use the array code" in reason
    with pytest.raises(kernels.KernelError, match="use the array code"):
        kernels.attention(q, q, q)


@pytest.mark.parametrize("chip", [80, 86, 90, 100])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_some_tile_fits_every_chip(chip, itemsize):
    for kernel in ("forward", "keys", "queries", *(["described"] if itemsize == 2 else [])):
        for d in range(1, 257):
            for dropout in (False, True):
                assert configs._fitting(
                    kernel, itemsize, d, chip, _runtime.SHARED_MEMORY[chip], dropout
                )


@pytest.mark.parametrize(
    ("chip", "kernel", "d", "dtype"),
    [
        (90, "described", 128, "bfloat16"),
        (90, "keys", 64, "bfloat16"),
        (100, "keys", 128, "float16"),
        (80, "queries", 256, "bfloat16"),
        (90, "queries", 64, "float32"),
        (90, "forward", 256, "float32"),
        (80, "forward", 64, "bfloat16"),
    ],
)
def test_shared_bytes(chip, kernel, d, dtype):
    """What is said of the shared memory of a tile is no less than what the compiler takes."""
    q, itemsize = np.zeros((1, 1, 256, d), DTYPES[dtype]), DTYPES[dtype].itemsize
    lse = np.zeros((1, 1, 256), np.float32)
    generation = {80: 80, 90: 90, 100: 100}[chip]
    tile, *_ = configs._TILES[kernel](max(d, 16), itemsize, generation, False)
    with kernels.compile_only(chip) as compiled:
        kernels.attention(q, q, q)
        kernels.attention_backward(q, q, q, q, q, lse, deterministic=True)
    name = "forward" if kernel == "described" else kernel
    (shared,) = (c.metadata.shared for c in compiled if name in c.metadata.name)
    assert shared <= configs.shared_bytes(kernel, tile, itemsize, generation)


@pytest.mark.parametrize("d", [16, 64, 128])
def test_no_pipelined_float32_product_is_split_between_warp_groups(d):
    """Triton 3.6 lets the second group read beyond shared memory: wrong gradients on an H200."""
    q = np.zeros((1, 1, 128, d), np.float32)
    with kernels.compile_only(90) as compiled:
        kernels.attention(q, q, q)
        kernels.attention_backward(q, q, q, q, q, np.zeros((1, 1, 128), np.float32))
    split = re.compile(r"(#mma\d*) = #ttg.nvidia_mma<{versionMajor = 3,[^}]*warpsPerCTA = .4, 2.")
    for kernel in compiled:
        code = kernel.asm["ttgir"]
        products = [
            line
            for layout in split.findall(code)
            for line in code.splitlines()
            if f"xf32, {layout}>" in line and "warp_group_dot " in line
        ]
        assert not products or kernel.metadata.num_stages == 1, kernel.metadata.name


def test_every_kernel_of_the_package_is_in_the_catalog():
    """A kernel that nobody compiles could spill unnoticed."""
    import importlib
    import pkgutil

    defined = set()
    for module in pkgutil.iter_modules(kernels.__path__):
        if module.name.endswith("_kernel") or module.name == "_common":
            found = vars(importlib.import_module(f"{kernels.__name__}.{module.name}"))
            defined |= {
                name
                for name, value in found.items()
                if name.endswith("_kernel") and type(value).__name__ == "JITFunction"
            }
    compiled = set()
    for call in catalog.launches().values():
        with _names_only(compiled):
            call()
    assert defined - compiled == set()


class _names_only:
    """Launches are noted by name instead of compiled."""

    def __init__(self, names):
        self.names = names

    def __enter__(self):
        _runtime.compile_launch = lambda kernel, *rest: self.names.add(kernel.__name__)

    def __exit__(self, *error):
        _runtime.compile_launch = None


def test_a_spill_is_noticed():
    """A tile too wide for the registers of one warp must show as stack."""
    from tinygrad_llm.kernels.softmax_kernel import softmax_forward_kernel

    x = np.zeros((4, 8192), np.float32)
    with kernels.compile_only(90) as compiled:
        kernels.launch(
            softmax_forward_kernel, (1,), x, x, 4, 8192, 8192, ROWS=1, COLUMNS=8192, num_warps=1
        )
    row = kernels.resources(compiled[0])
    assert row.stack > 0
    assert not row.fits
    assert "does not fit" in kernels.table([("softmax", row)])


def test_unknown_chip():
    with pytest.raises(kernels.KernelError, match="unknown chip 70; known are 80,"):
        with kernels.compile_only(70):
            pass
