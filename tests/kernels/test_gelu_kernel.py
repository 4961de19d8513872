from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import kernel_references as reference
from tinygrad_llm import kernels

FORMS = ("tanh", "none")


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 11, 37), (2, 19, 1100)], ids=str)
def test_forward_and_backward(device, dtype, shape, approximate):
    x, dy = device.normal(shape, dtype) * 2, device.normal(shape, dtype)
    bias = device.normal(shape[-1:], dtype)
    y, derivative = reference.gelu(x, bias, approximate)
    moved = device.put(x), device.put(bias)
    device.check(kernels.bias_gelu(*moved, approximate), y, dtype)
    dx, db = kernels.bias_gelu_backward(device.put(dy), *moved, approximate)
    expected = dy.astype(np.float64) * derivative
    device.check(dx, expected, dtype, factor=2)
    device.check(db, expected.reshape(-1, shape[-1]).sum(0), dtype, factor=2)


@pytest.mark.parametrize("approximate", FORMS)
def test_without_bias(device, approximate):
    x, dy = device.normal((9, 30)), device.normal((9, 30))
    y, derivative = reference.gelu(x, None, approximate)
    device.check(kernels.bias_gelu(device.put(x), None, approximate), y, "float32")
    dx, db = kernels.bias_gelu_backward(device.put(dy), device.put(x), None, approximate)
    device.check(dx, dy * derivative, "float32", factor=3)
    assert db is None


@pytest.mark.parametrize("approximate", FORMS)
def test_far_tails_neither_overflow_nor_lose_the_sign(device, approximate):
    x = np.array([[-1e4, -50.0, -0.0, 0.0, 50.0, 1e4]], np.float32)
    y = device.get(kernels.bias_gelu(device.put(x), None, approximate))
    np.testing.assert_array_equal(y, [[0, 0, 0, 0, 50, 1e4]])
    dx, _ = kernels.bias_gelu_backward(
        device.put(np.ones_like(x)), device.put(x), None, approximate
    )
    np.testing.assert_allclose(device.get(dx), [[0, 0, 0.5, 0.5, 1, 1]], atol=1e-7)


def test_rows_of_a_wider_array_and_empty(device):
    wide = device.normal((7, 90))
    y = kernels.bias_gelu(device.put(wide)[:, 30:61])
    device.check(y, reference.gelu(wide[:, 30:61], None, "tanh")[0], "float32")
    empty, bias = device.put(np.empty((0, 4), np.float32)), device.put(np.ones(4, np.float32))
    dx, db = kernels.bias_gelu_backward(empty, empty, bias)
    assert dx.shape == (0, 4)
    assert not device.get(db).any()


def test_refusals():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(kernels.KernelError, match="approximate must be 'tanh' or 'none'"):
        kernels.bias_gelu(x, approximate="exact")
    with pytest.raises(kernels.KernelError, match="dy must have shape"):
        kernels.bias_gelu_backward(np.ones((3, 2), np.float32), x)
