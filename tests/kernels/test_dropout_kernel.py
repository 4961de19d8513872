from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import kernel_references as reference
from tinygrad_llm import kernels

KEY = (0xDEADBEEF, 0x12345678)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_the_mask_is_the_agreed_one_bit_for_bit(device, dtype, p):
    x = device.normal((3, 7, 211), dtype)
    keep = reference.keep(KEY, np.arange(x.size), p).reshape(x.shape)
    expected = np.where(keep, x.astype(np.float64) / (1 - p), 0)
    y = kernels.dropout(device.put(x), p, KEY)
    device.check(y, expected, dtype)
    np.testing.assert_array_equal(device.get(y) != 0, keep & (x != 0))


@pytest.mark.parametrize("key", [(0, 0), (1, 1), (2**31, 2**31 - 1), (2**32 - 1, 16)])
def test_keys_at_the_edges(device, key):
    x = np.ones(300, np.float32)
    keep = reference.keep(key, np.arange(300), 0.25)
    np.testing.assert_array_equal(device.get(kernels.dropout(device.put(x), 0.25, key)) != 0, keep)


def test_key_in_device_memory(device):
    x, key = device.put(device.normal((5, 50))), device.put(np.array(KEY, np.uint32))
    expected = device.get(kernels.dropout(x, 0.3, KEY))
    np.testing.assert_array_equal(device.get(kernels.dropout(x, 0.3, key)), expected)


def test_backward_takes_the_same_mask(device):
    x, dy = np.ones((6, 70), np.float32), device.normal((6, 70))
    y = device.get(kernels.dropout(device.put(x), 0.4, KEY))
    dx = device.get(kernels.dropout_backward(device.put(dy), 0.4, KEY))
    np.testing.assert_allclose(dx, dy * y, rtol=1e-6)


def test_p_zero_keeps_everything_and_nan_does_not_pass_a_dropped_element(device):
    x = device.normal((4, 33))
    np.testing.assert_array_equal(device.get(kernels.dropout(device.put(x), 0.0, None)), x)
    x[:] = np.nan
    y = device.get(kernels.dropout(device.put(x), 0.5, KEY))
    keep = reference.keep(KEY, np.arange(x.size), 0.5).reshape(x.shape)
    np.testing.assert_array_equal(np.isnan(y), keep)
    assert not y[~keep].any()


def test_not_contiguous_counts_in_c_order(device):
    x = device.normal((10, 12))
    expected = device.get(kernels.dropout(device.put(np.ascontiguousarray(x.T)), 0.5, KEY))
    np.testing.assert_array_equal(device.get(kernels.dropout(device.put(x).T, 0.5, KEY)), expected)


def test_refusals():
    x = np.ones(3, np.float32)
    with pytest.raises(kernels.KernelError, match=r"p must be in \[0, 1\), got 1.0"):
        kernels.dropout(x, 1.0, KEY)
    with pytest.raises(kernels.KernelError, match="needs key="):
        kernels.dropout(x, 0.5, None)
