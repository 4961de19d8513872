from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import kernel_references as reference
from tinygrad_llm import kernels

SHAPES = [(1, 1), (3, 5, 31), (2, 17, 768), (5, 1500), (3, 9000)]


def _parameters(device, n, dtype):
    return device.normal((n,), dtype), device.normal((n,), dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_backward(device, dtype, shape):
    x, dy = device.normal(shape, dtype), device.normal(shape, dtype)
    weight, bias = _parameters(device, shape[-1], dtype)
    y, mean, rstd = kernels.layer_norm(*map(device.put, (x, weight, bias)))
    device.check(y, reference.layer_norm(x, weight, bias), dtype)
    got = kernels.layer_norm_backward(*map(device.put, (dy, x, weight)), mean, rstd)
    for actual, expected in zip(got, reference.layer_norm_backward(dy, x, weight), strict=True):
        device.check(actual, expected, dtype, factor=2)


def test_without_weight_and_bias(device):
    x, dy = device.normal((6, 33)), device.normal((6, 33))
    y, mean, rstd = kernels.layer_norm(device.put(x))
    device.check(y, reference.layer_norm(x, None, None), "float32")
    dx, _, _ = kernels.layer_norm_backward(device.put(dy), device.put(x), None, mean, rstd)
    device.check(dx, reference.layer_norm_backward(dy, x, None)[0], "float32")


def test_residual_fused(device, dtype):
    x, residual, dy, ds = (device.normal((3, 7, 100), dtype) for _ in range(4))
    weight, bias = _parameters(device, 100, dtype)
    s, y, mean, rstd = kernels.add_layer_norm(*map(device.put, (x, residual, weight, bias)))
    exact_sum = x.astype(np.float64) + residual.astype(np.float64)
    device.check(s, exact_sum, dtype)
    device.check(y, reference.layer_norm(device.get(s), weight, bias), dtype)
    dx, dw, db = kernels.layer_norm_backward(
        device.put(dy), s, device.put(weight), mean, rstd, ds=device.put(ds)
    )
    expected = reference.layer_norm_backward(dy, device.get(s), weight)
    device.check(dx, expected[0] + ds.astype(np.float64), dtype)
    device.check(dw, expected[1], dtype)
    device.check(db, expected[2], dtype)


def test_the_sums_over_rows_come_without_rounding_where_asked(device):
    x, dy = device.normal((400, 24), "bfloat16"), device.normal((400, 24), "bfloat16")
    _, mean, rstd = kernels.layer_norm(device.put(x))
    arguments = device.put(dy), device.put(x), None, mean, rstd
    expected = reference.layer_norm_backward(dy, x, None)[1:]
    for actual, exact in zip(
        kernels.layer_norm_backward(*arguments, sums_dtype="float32")[1:], expected, strict=True
    ):
        device.check(actual, exact, "float32")
    for actual, exact in zip(kernels.layer_norm_backward(*arguments)[1:], expected, strict=True):
        device.check(actual, exact, "bfloat16")


def test_a_large_mean_does_not_cancel(device):
    x = device.normal((4, 256)) + np.float32(1000.0)
    y, _, rstd = kernels.layer_norm(device.put(x))
    device.check(y, reference.layer_norm(x, None, None), "float32", factor=30)
    expected = 1 / np.sqrt(x.astype(np.float64).var(-1) + 1e-5)
    np.testing.assert_allclose(device.get(rstd), expected, rtol=1e-4)


def test_rows_of_a_wider_array_are_read_in_place(device):
    wide = device.normal((9, 3 * 64))
    x = device.put(wide)[:, 64:128]
    y, _, _ = kernels.layer_norm(x)
    device.check(y, reference.layer_norm(wide[:, 64:128], None, None), "float32")


def test_nan_stays_in_its_row(device):
    x = device.normal((5, 20))
    x[2, 3] = np.nan
    y = device.get(kernels.layer_norm(device.put(x))[0])
    assert np.isnan(y[2]).all()
    assert np.isfinite(np.delete(y, 2, 0)).all()


def test_empty(device):
    x = device.put(np.empty((0, 5, 16), np.float32))
    y, mean, rstd = kernels.layer_norm(x)
    assert y.shape == (0, 5, 16)
    dx, dw, db = kernels.layer_norm_backward(x, x, None, mean, rstd)
    assert dx.shape == (0, 5, 16)
    assert not device.get(dw).any()
    assert not device.get(db).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": np.ones(7, np.float32)}, r"weight must have shape \(8,\), got \(7,\)"),
        ({"bias": np.ones(8)}, "bias must be an array of float32"),
        ({"x": np.ones((1, 40000), np.float32), "weight": None, "bias": None}, "at most 16384"),
    ],
)
def test_refusals(change, words):
    arguments = {
        "x": np.ones((2, 8), np.float32),
        "weight": np.ones(8, np.float32),
        "bias": np.ones(8, np.float32),
        **change,
    }
    with pytest.raises(kernels.KernelError, match="layer_norm: .*" + words):
        kernels.layer_norm(**arguments)
    assert kernels.layer_norm.supports(**arguments)


def test_a_constant_row_far_from_zero_is_zero(device):
    """The mean of 768 times 1000.1 is not 1000.1 in float32, nor is it for the backward pass."""
    x = np.repeat(np.array([[1000.1], [-3e5], [0.3]], np.float32), 768, 1)
    y, mean, _ = kernels.layer_norm(device.put(x))
    assert np.abs(device.get(y)).max() < 1e-4
    np.testing.assert_array_equal(device.get(mean), x[:, 0])
