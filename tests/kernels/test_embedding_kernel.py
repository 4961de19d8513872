from __future__ import annotations

import numpy as np
import pytest

from tinygrad_llm import kernels


@pytest.mark.parametrize("c", [1, 37, 1300])
def test_forward(device, dtype, c):
    weight, ids = device.normal((13, c), dtype), device.rng.integers(0, 13, (3, 5))
    y = kernels.embedding(device.put(ids), device.put(weight))
    np.testing.assert_array_equal(device.get(y), weight[ids])


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("c", [1, 37, 1300])
def test_backward_adds_repeated_ids(device, dtype, c, deterministic):
    ids = device.rng.integers(0, 4, (3, 19)).astype(np.int32)  # each id far more than 16 times
    ids[0, :3] = 9
    dy = device.normal((3, 19, c), dtype)
    dw = kernels.embedding_backward(device.put(dy), device.put(ids), 11, deterministic)
    expected = np.zeros((11, c))
    np.add.at(expected, ids, dy.astype(np.float64))
    device.check(dw, expected, "float32")


def test_backward_adds_onto_out(device):
    dy, ids = device.normal((6, 8), "bfloat16"), np.array([2, 2, 0, 1, 2, 0])
    start = device.normal((3, 8), "bfloat16")
    out = device.put(start.copy())
    assert kernels.embedding_backward(device.put(dy), device.put(ids), 3, out=out) is out
    expected = start.astype(np.float64)
    np.add.at(expected, ids, dy.astype(np.float64))
    device.check(out, expected, "bfloat16")


def test_ids_out_of_range(device):
    weight, ids = device.normal((4, 6)), np.array([0, 4, -1, 3])
    y = device.get(kernels.embedding(device.put(ids), device.put(weight)))
    np.testing.assert_array_equal(np.isnan(y).all(1), [False, True, True, False])
    for deterministic in (True, False):
        dw = kernels.embedding_backward(
            device.put(np.ones((4, 6), np.float32)), device.put(ids), 4, deterministic
        )
        np.testing.assert_array_equal(device.get(dw)[:, 0], [1, 0, 0, 1])


def test_empty(device):
    ids, weight = np.empty((0, 3), np.int64), device.normal((4, 6))
    assert kernels.embedding(device.put(ids), device.put(weight)).shape == (0, 3, 6)
    dw = kernels.embedding_backward(device.put(np.empty((0, 3, 6), np.float32)), device.put(ids), 4)
    assert not device.get(dw).any()


def test_refusals():
    weight = np.ones((4, 6), np.float32)
    with pytest.raises(kernels.KernelError, match="ids must be an array of int32 or int64"):
        kernels.embedding(np.ones(3), weight)
    with pytest.raises(kernels.KernelError, match="atomics add onto float32"):
        kernels.embedding_backward(
            np.ones((3, 6), np.float16),
            np.zeros(3, np.int64),
            4,
            False,
            out=np.zeros((4, 6), np.float16),
        )
