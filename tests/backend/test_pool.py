"""The buffer pool: blocks come back the moment their last view dies, and are used again."""

import gc
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_llm.backend.pool import HEADROOM, SLACK, SMALLEST, Pool, _size_class

SHAPE = (SMALLEST // 4, 3)


def test_a_dead_array_s_memory_is_used_again_at_once():
    pool = Pool()
    x = pool.empty(SHAPE, np.float32)
    address = x.ctypes.data
    assert pool.statistics.in_use >= x.nbytes
    del x
    assert pool.statistics.in_use == 0
    y = pool.empty(SHAPE, np.float32)
    assert y.ctypes.data == address
    assert pool.statistics.allocations == 1


def test_any_view_keeps_the_memory():
    pool = Pool()
    x = pool.empty(SHAPE, np.float32)
    views = [x[5:], x.reshape(-1, 6)[::2], x.T, np.asarray(x), x.view(np.uint8), x[1:][1:]]
    del x
    while views:
        assert pool.statistics.idle == 0
        views.pop()
        gc.collect(0)
    assert pool.statistics.in_use == 0
    assert pool.statistics.idle > 0


def test_arrays_in_use_never_share_memory():
    pool = Pool()
    rng = np.random.default_rng(0)
    alive = []
    for i in range(300):
        if alive and rng.random() < 0.5:
            value, x = alive.pop(int(rng.integers(len(alive))))
            assert (x == value).all()
            del x
        x = pool.empty((int(rng.integers(SMALLEST // 4, SMALLEST)),), np.float32)
        x[:] = i
        alive.append((i, x))
    for value, x in alive:
        assert (x == value).all()


@given(st.integers(SMALLEST, 1 << 34))
@settings(max_examples=200)
def test_size_classes_waste_at_most_a_sixteenth(nbytes):
    size = _size_class(nbytes)
    assert nbytes <= size <= max(nbytes * 17 / 16, nbytes + 64)
    assert size % 64 == 0


def test_what_is_held_is_bounded_when_shapes_change():
    pool = Pool()
    for i in range(100):
        x = pool.empty((SMALLEST + 300_000 * i,), np.float32)
        x[0] = 0
        del x
        held = pool.statistics.in_use + pool.statistics.idle
        assert held <= HEADROOM * pool.statistics.peak + SLACK + 1
    assert pool.trim() > 0
    assert pool.statistics.idle == 0


def test_small_arrays_are_left_to_numpy_and_large_ones_are_aligned():
    pool = Pool()
    assert pool.empty((3, 4), np.float64).base is None
    assert pool.empty((0, 4), np.float32).shape == (0, 4)
    assert pool.statistics.requests == 0
    assert pool.empty(SHAPE, np.float32).ctypes.data % 64 == 0


def test_threads_may_take_and_drop_at_once():
    pool = Pool()

    def work():
        for _ in range(500):
            x = pool.empty(SHAPE, np.float32)
            x[0] = 1
            del x

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert pool.statistics.in_use == 0
    assert pool.statistics.requests == 2000
    assert pool.statistics.allocations <= 8


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
def test_nothing_points_back_at_the_pool_s_arrays():
    pool = Pool()
    x = pool.empty(SHAPE, np.float32)
    assert sys.getrefcount(x) == 2
