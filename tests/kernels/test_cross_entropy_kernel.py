from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import kernel_references as reference
from tinygrad_llm import kernels

SHAPES = [((1,), 1), ((3, 5), 31), ((7,), 1000), ((2,), 9001)]


def _draw(device, leading, v, dtype="float32"):
    targets = device.rng.integers(0, v, leading)
    if targets.size > 2:
        targets.flat[1] = -100
    return device.normal((*leading, v), dtype) * 3, targets


@pytest.mark.parametrize(("leading", "v"), SHAPES)
def test_forward_and_backward(device, dtype, leading, v):
    logits, targets = _draw(device, leading, v, dtype)
    dloss = device.normal((targets.size,))
    losses, dx = reference.cross_entropy(logits, targets)
    moved = device.put(logits), device.put(targets)
    got, lse = kernels.cross_entropy(*moved)
    device.check(got, losses, "float32", factor=5)
    expected = dx * dloss.reshape(*leading, 1)
    got = kernels.cross_entropy_backward(*moved, lse, device.put(dloss))
    device.check(got, expected, dtype, factor=2)


@pytest.mark.parametrize(("leading", "v"), SHAPES)
def test_gradient_in_place_of_the_logits(device, dtype, leading, v):
    logits, targets = _draw(device, leading, v, dtype)
    losses, dx = reference.cross_entropy(logits, targets)
    moved = device.put(logits.copy())
    scale = device.put(np.array([0.25], np.float32))
    got, dlogits = kernels.cross_entropy_with_gradient(moved, device.put(targets), scale)
    assert dlogits is moved
    device.check(got, losses, "float32", factor=5)
    device.check(dlogits, dx * 0.25, dtype, factor=2)


def test_gradient_into_another_array_leaves_the_logits(device):
    logits, targets = _draw(device, (5,), 300)
    moved, out = device.put(logits.copy()), device.put(np.empty_like(logits))
    _, dlogits = kernels.cross_entropy_with_gradient(moved, device.put(targets), 0.5, out=out)
    assert dlogits is out
    np.testing.assert_array_equal(device.get(moved), logits)
    device.check(out, reference.cross_entropy(logits, targets)[1] * 0.5, "float32")


def test_ignored_rows_give_zero_whatever_they_hold(device):
    logits, targets = _draw(device, (4,), 50)
    targets[:] = (3, 7, 3, 7)
    logits[1] = np.nan
    losses, dx = kernels.cross_entropy_with_gradient(
        device.put(logits), device.put(targets), 1.0, ignore_index=7)
    assert device.get(losses)[1] == 0
    assert not device.get(dx)[[1, 3]].any()
    assert device.get(dx)[[0, 2]].all()


def test_masked_logits_are_legal_and_get_no_gradient(device):
    logits, targets = np.zeros((2, 40), np.float32), np.array([1, 2])
    logits[:, 4:] = -np.inf
    losses, dx = kernels.cross_entropy_with_gradient(device.put(logits), device.put(targets))
    np.testing.assert_allclose(device.get(losses), np.log(4), rtol=1e-6)
    assert not device.get(dx)[:, 4:].any()
    np.testing.assert_allclose(device.get(dx)[0, :4], [0.25, -0.75, 0.25, 0.25], rtol=1e-6)


def test_a_leading_block_of_minus_infinity_does_not_poison_the_running_sum(device):
    logits, targets = device.normal((1, 9000)), np.array([8999])
    logits[0, :4500] = -np.inf  # more than the first block of the kernel
    losses, _ = kernels.cross_entropy(device.put(logits), device.put(targets))
    expected = np.log(np.exp(logits[0, 4500:].astype(np.float64)).sum()) - logits[0, -1]
    np.testing.assert_allclose(device.get(losses), [expected], rtol=1e-6)


def test_a_target_out_of_range_gives_nan_and_touches_no_other_memory(device):
    logits, targets = _draw(device, (3,), 20)
    targets[:] = (2, 20, -1)
    losses, dx = kernels.cross_entropy_with_gradient(device.put(logits), device.put(targets))
    np.testing.assert_array_equal(np.isnan(device.get(losses)), [False, True, True])
    np.testing.assert_array_equal(np.isnan(device.get(dx)).all(1), [False, True, True])


def test_empty(device):
    logits, targets = np.empty((0, 5), np.float32), np.empty(0, np.int64)
    losses, lse = kernels.cross_entropy(device.put(logits), device.put(targets))
    assert losses.shape == lse.shape == (0,)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("chunk_rows", [None, 4])
def test_linear_cross_entropy(device, dtype, chunk_rows, with_bias):
    x, weight = device.normal((3, 5, 24), dtype), device.normal((61, 24), dtype)
    bias = device.normal((61,), dtype) if with_bias else None
    targets = device.rng.integers(0, 61, (3, 5))
    targets[1, 2] = -100
    loss, dx, dw, db = kernels.linear_cross_entropy(
        *map(device.put, (x, weight, targets, bias)), chunk_rows=chunk_rows)
    x64, w64, b64 = reference.double(x, weight, bias)
    losses, dlogits = reference.cross_entropy(x64 @ w64.T + (0 if b64 is None else b64), targets)
    dlogits /= 14
    device.check(loss, np.array(losses.sum() / 14), "float32",
                 factor=3 if dtype == "float32" else 1000)
    flat = dlogits.reshape(-1, 61)
    device.check(dx, dlogits @ w64, dtype, factor=3)
    device.check(dw, flat.T @ x64.reshape(-1, 24), dtype, factor=3)
    if with_bias:
        device.check(db, flat.sum(0), dtype, factor=3)
    else:
        assert db is None


def test_linear_cross_entropy_without_gradient_and_with_nothing_to_count(device):
    x, weight = device.normal((4, 8)), device.normal((10, 8))
    targets = np.array([1, 2, 3, 4])
    moved = device.put(x), device.put(weight)
    loss, *gradients = kernels.linear_cross_entropy(*moved, device.put(targets),
                                                    needs_gradient=False)
    expected, _ = reference.cross_entropy(x.astype(np.float64) @ weight.T, targets)
    device.check(loss, np.array(expected.mean()), "float32")
    assert gradients == [None, None, None]
    loss, dx, dw, _ = kernels.linear_cross_entropy(*moved, device.put(np.full(4, -100)))
    assert np.isnan(device.get(loss))
    assert not device.get(dx).any()
    assert not device.get(dw).any()


@pytest.mark.parametrize(("logits", "targets", "words"), [
    (np.ones((2, 3), np.float32), np.zeros((2, 1), np.int64), r"targets must have shape \(2,\)"),
    (np.ones((2, 3), np.float32), np.zeros(2), "int32 or int64, got an array of float64"),
    (np.ones((2, 0), np.float32), np.zeros(2, np.int64), "at least one class"),
])
def test_refusals(logits, targets, words):
    with pytest.raises(kernels.KernelError, match="cross_entropy: .*" + words):
        kernels.cross_entropy(logits, targets)


def test_linear_cross_entropy_refuses_two_dtypes():
    with pytest.raises(kernels.KernelError, match="x is float16 and weight is float32"):
        kernels.linear_cross_entropy(np.ones((2, 3), np.float16), np.ones((5, 3), np.float32),
                                     np.zeros(2, np.int64))
