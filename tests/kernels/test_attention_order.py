"""The order in which the forward kernel of attention takes its blocks of queries."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import triton
import triton.language as tl
from tinygrad_llm.kernels.attention_kernel import order

from tinygrad_llm import kernels


@triton.jit
def _order_kernel(Part, BatchHead, parts, batch_heads, together, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    part, batch_head = order.nth_block(place, parts, batch_heads, together)
    tl.store(Part + place, part, mask=place < parts * batch_heads)
    tl.store(BatchHead + place, batch_head, mask=place < parts * batch_heads)


def _order(parts, batch_heads, together):
    """The place of each (part, batch_head) in the kernel's order."""
    part, batch_head = np.empty((2, parts * batch_heads), np.int32)
    kernels.launch(
        _order_kernel,
        (1,),
        part,
        batch_head,
        parts,
        batch_heads,
        together,
        BLOCK=triton.next_power_of_2(parts * batch_heads),
    )
    return part, batch_head


@pytest.mark.parametrize(
    ("parts", "batch_heads", "together"), [(1, 1, 1), (3, 7, 3), (8, 6, 6), (5, 4, 1)]
)
def test_every_block_has_one_place(parts, batch_heads, together):
    part, batch_head = _order(parts, batch_heads, together)
    assert sorted(zip(part, batch_head, strict=True)) == [
        (p, x) for p in range(parts) for x in range(batch_heads)
    ]
    group = batch_head // together
    assert (np.diff(group) >= 0).all()
    assert all((np.diff(part[group == g]) <= 0).all() for g in set(group))


@pytest.mark.parametrize(
    ("batch_heads", "before", "after"), [(192, 1.18, 1.04), (384, 1.09, 1.03), (768, 1.04, 1.02)]
)
def test_short_blocks_fill_the_end(batch_heads, before, after):
    """GPT-2's 8 blocks of 128 queries on 264 places: the last end over an even share."""

    def last_end(together):
        works = 2 * _order(8, batch_heads, together)[0] + 3  # steps of 64 keys, and one to begin
        ends = [0] * 264
        for work in works.tolist():
            heapq.heapreplace(ends, ends[0] + work)
        return max(ends) / (works.sum() / 264)

    assert last_end(1) > before
    assert last_end(64) < after


@pytest.mark.parametrize(
    ("batch_heads", "s", "d", "expected"),
    [
        (6, 1024, 64, 6),
        (384, 1024, 64, 64),
        (64, 8192, 128, 4),
        (64, 1 << 20, 256, 1),
        (5, 0, 64, 5),
    ],
)
def test_so_many_heads_go_side_by_side_as_the_cache_holds(batch_heads, s, d, expected):
    k = np.broadcast_to(np.float16(0), (1, batch_heads, s, d))
    assert order.heads_together(k, k) == expected
