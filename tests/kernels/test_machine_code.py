"""Facts read from machine code, on small kernels of which they are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import triton
import triton.language as tl
from tinygrad_llm.kernels._loops import Instruction, Loop, innermost_loops
from tinygrad_llm.kernels.machine_code import Access, programs_per_multiprocessor

from tests.kernels.conftest import DTYPES
from tinygrad_llm import kernels


@triton.jit
def copy_kernel(X, Y, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + offsets, tl.load(X + offsets, mask=offsets < n), mask=offsets < n)


@triton.jit
def gather_kernel(Ids, W, Total, COLUMNS: tl.constexpr):
    row = tl.load(Ids + tl.program_id(0))
    columns = tl.arange(0, COLUMNS)
    tl.atomic_add(Total + columns, tl.load(W + row * COLUMNS + columns))


@triton.jit
def loop_kernel(X, Y, n, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        total += tl.exp2(tl.load(X + start + tl.arange(0, BLOCK)))
    tl.store(Y + tl.arange(0, BLOCK), total)


@triton.jit
def products_kernel(A, B, C, n, SIZE: tl.constexpr):
    rows = tl.arange(0, SIZE)
    tile = rows[:, None] * SIZE + rows[None, :]
    total = tl.zeros([SIZE, SIZE], tl.float32)
    for start in range(0, n, SIZE):
        total = tl.dot(tl.load(A + start * SIZE + tile), tl.load(B + start * SIZE + tile), total)
    tl.store(C + tile, total)


@triton.jit
def blocks_kernel(X, Y, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS
    Y.store([row, 0], X.load([row, 0]))


def read(kernel, *args, chip=90, **constants):
    with kernels.compile_only(chip) as compiled:
        kernels.launch(kernel, (1,), *args, **constants)
    return kernels.read_machine_code(compiled[0])


def test_widths_of_accesses_and_whose_they_are():
    x = np.zeros(1 << 14, np.float32)
    wide = read(copy_kernel, x, x, 1 << 14, BLOCK=1024)
    assert set(wide.accesses) == {Access("X", "load", 16, 2), Access("Y", "store", 16, 2)}
    odd = read(copy_kernel, x, x, 9999, BLOCK=1024)  # the mask may end anywhere
    assert set(odd.accesses) == {Access("X", "load", 4, 8), Access("Y", "store", 4, 8)}
    assert odd.counts["LDG.E"] == 8
    assert wide.counts["LDG.E.128"] == 2


def test_a_row_that_was_looked_up_belongs_to_its_table():
    ids, table = np.zeros(4, np.int64), np.zeros((9, 256), np.float32)
    found = read(gather_kernel, ids, table, table[0], COLUMNS=256)
    assert {(a.parameter, a.kind) for a in found.accesses} == {
        ("Ids", "load"),
        ("W", "load"),
        ("Total", "atomic"),
    }


def test_blocks_through_descriptors_are_tensor_accesses():
    x = np.zeros((64, 64), np.float16)
    descriptor = kernels.Descriptor(x, (32, 64))
    found = read(blocks_kernel, descriptor, descriptor, ROWS=32)
    assert {(a.kind, a.bytes) for a in found.accesses} == {("tensor", 0)}
    assert sum(a.count for a in found.accesses) == 2


def test_a_loop_and_what_is_in_it():
    x = np.zeros(4096, np.float32)
    (loop,) = read(loop_kernel, x, x, 4096, BLOCK=512, num_warps=4).loops
    assert loop.exponentials in {4, 8, 16}  # four elements a thread, once or several rounds at once
    assert loop.products == 0
    assert 20 < loop.instructions < 200
    assert read(copy_kernel, x, x, 4096, BLOCK=1024).loops == ()


def code(*pieces):
    """Instructions from (how many, of what name) and ("branch", from where it leads, always)."""
    found = []
    for first, second, *always in pieces:
        if first == "branch":
            found.append(Instruction(len(found), "BRA", second, bool(always)))
        else:
            found += [Instruction(len(found) + i, second, None, False) for i in range(first)]
    return [*found, Instruction(len(found), "EXIT", None, True)]


def test_the_inner_of_two_loops():
    inner = code((5, "IADD3"), (10, "MUFU.EX2"), ("branch", 5), (20, "FADD"), ("branch", 2))
    assert list(innermost_loops(inner)) == [Loop(11, 11, 0, 10)]


def test_a_round_with_a_choice_has_a_shortest_and_a_longest():
    """A branch over 7 instructions; and the same with the 7 moved behind the loop."""
    inside = code((9, "HGMMA"), ("branch", 17), (7, "FSEL"), (3, "FADD"), ("branch", 0))
    assert list(innermost_loops(inside)) == [Loop(14, 21, 9, 0)]
    behind = code(
        (9, "HGMMA"),
        ("branch", 15),
        (3, "FADD"),
        ("branch", 0),
        (1, "EXIT"),
        (7, "FSEL"),
        ("branch", 10, "always"),
    )
    behind[14] = behind[14]._replace(leaves=True)
    assert list(innermost_loops(behind)) == [Loop(14, 22, 9, 0)]


def test_waiting_is_no_loop_and_hides_none():
    """A barrier is waited for in a loop of two instructions; a trap behind the end is another."""
    waits = code((9, "FADD"), (1, "SYNCS.PHASECHK"), ("branch", 9), (9, "HMMA"), ("branch", 0))
    trap = Instruction(len(waits), "BRA", len(waits), True)
    assert list(innermost_loops([*waits, trap])) == [Loop(21, 21, 9, 0)]


@pytest.mark.parametrize(("chip", "unit"), [(90, "HGMMA"), (80, "HMMA")])
def test_products_on_the_matrix_units(chip, unit):
    a = np.zeros((4096, 64), DTYPES["bfloat16"])
    found = read(products_kernel, a, a, np.zeros((64, 64), np.float32), 4096, SIZE=64, chip=chip)
    assert found.multiplies
    assert max(loop.products for loop in found.loops) > 0
    assert any(name.startswith(unit) for name in found.counts)
    assert {a.kind for a in found.accesses if a.parameter in "AB"} == {"copy"}


def test_spills_show():
    from tinygrad_llm.kernels.softmax_kernel import softmax_forward_kernel

    x = np.zeros((4, 8192), np.float32)
    found = read(softmax_forward_kernel, x, x, 4, 8192, 8192, ROWS=1, COLUMNS=8192, num_warps=1)
    assert found.spilled > 0
    assert found.counts.keys() & {"STL", "STL.64", "STL.128"}


@pytest.mark.parametrize(
    ("registers", "threads", "shared", "programs"),
    [
        (32, 1024, 0, 2),  # all 65536 registers, and all 2048 threads
        (33, 1024, 0, 1),  # 40 are handed out
        (64, 1024, 0, 1),
        (65, 1024, 0, 0),
        (255, 256, 0, 1),
        (128, 256, 0, 2),
        (16, 32, 0, 32),  # more programs there are not
        (16, 64, 0, 32),
        (16, 256, 0, 8),  # 2048 threads
        (32, 128, 113 << 10, 2),  # 1 KiB of each program's shared memory goes to CUDA
        (32, 128, (113 << 10) + 1, 1),
    ],
)
def test_how_many_programs_fit_a_multiprocessor(registers, threads, shared, programs):
    """By the limits of compute capability 9.0 in the CUDA C++ Programming Guide."""
    assert programs_per_multiprocessor(90, registers, threads, shared) == programs


def test_unknown_chip():
    with pytest.raises(kernels.KernelError, match="no limits are known for sm_70; known are sm_80"):
        programs_per_multiprocessor(70, 32, 128, 0)
