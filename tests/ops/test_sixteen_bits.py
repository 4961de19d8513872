"""Sums that 16 bits cannot hold, and what numbers of 16 bits stay beside Python's."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.stand_in_gpu import stand_in_gpu
from tinygrad_llm import functional as F


def leaf(values, dtype="float32", device="cpu"):
    return tg.tensor(np.asarray(values), dtype=dtype, device=device, requires_grad=True)


def gradient(f, values, dy=None, dtype="float32"):
    x = leaf(values, dtype)
    y = f(x)
    y.backward(np.broadcast_to(1.0 if dy is None else dy, y.shape))
    return x.grad


N = 5000  # ones: a running sum in bfloat16 stops at 256, one in float16 at 2048


def embedded(x):
    return F.embedding(np.zeros(N, int), x.reshape(1, 2))


REPEATED = {
    "broadcast sum": lambda x: x + tg.tensor(np.zeros((N, 2)), x.dtype),
    "broadcast product": lambda x: x * tg.tensor(np.ones((N, 2)), x.dtype),
    "broadcast quotient": lambda x: x / tg.tensor(np.ones((N, 2)), x.dtype),
    "broadcast_to": lambda x: x.broadcast_to(N, 2),
    "where": lambda x: F.where(np.ones((N, 2), bool), x, 0.0),
    "repeated index": lambda x: x.reshape(1, 2)[np.zeros(N, int)],
    "embedding": embedded,
    "bias of linear": lambda x: F.linear(
        tg.tensor(np.zeros((N, 2)), x.dtype), tg.tensor(np.zeros((2, 2)), x.dtype), x
    ),
    "bias of layer_norm": lambda x: F.layer_norm(
        tg.tensor(np.zeros((N, 2)), x.dtype), tg.tensor(np.ones(2), x.dtype), x
    ),
    "one matrix for a batch": lambda x: tg.tensor(np.ones((N, 1, 1)), x.dtype) @ x.reshape(1, 2),
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", REPEATED)
def test_gradients_of_what_was_repeated(name, dtype, device, monkeypatch):
    if device == "cuda":
        f = REPEATED[name]
        with stand_in_gpu(monkeypatch), tg.use_kernels("off"):
            original = tg.tensor
            monkeypatch.setattr(tg, "tensor", lambda *a: original(*a, device="cuda"))
            x = original([1.0, 1.0], dtype, "cuda", requires_grad=True)
            y = f(x)
            y.backward(y.detach() * 0 + 1)
            got = x.grad.host
    else:
        got = gradient(REPEATED[name], [1.0, 1.0], dtype=dtype)
    assert got.dtype.name == dtype
    np.testing.assert_allclose(got.astype(float), N, rtol=2**-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_sums_means_and_variances(dtype, axis):
    x = np.ones((N, 4))
    x[:, 1::2] = 3.0
    t = tg.tensor(x, dtype)
    for name in ("sum", "mean", "var"):
        got = getattr(t, name)(axis=axis)
        want = getattr(tg.tensor(x), name)(axis=axis)
        assert got.dtype == t.dtype
        want = want.numpy().astype(t.dtype).astype(float)
        np.testing.assert_allclose(got.numpy().astype(float), want, rtol=2**-8)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 2.5,
        lambda x: 2.5 * x,
        lambda x: x + 0.5,
        lambda x: x - 1,
        lambda x: 1 - x,
        lambda x: x / 3.0,
        lambda x: 3.0 / x,
        lambda x: x**2.5,
        lambda x: x**2,
        lambda x: 2.5**x,
        lambda x: x.sigmoid(),
        lambda x: x.clip(0.1, 0.7),
        lambda x: x.relu(),
        lambda x: x.gelu(),
        lambda x: x.tanh(),
        lambda x: F.where(np.array([True]), x, 0.5),
        lambda x: x.mean(),
        lambda x: x.masked_fill(np.array([True]), 0.3),
        lambda x: x.var(),
        lambda x: x.softmax(),
        lambda x: F.silu(x),
        lambda x: x.max(),
        lambda x: abs(x),
        lambda x: x.sum(),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_python_numbers_leave_16_bits_as_they_are(f, dtype):
    x = leaf([0.25, 0.5, 1.5], dtype)
    y = f(x)
    assert y.dtype == x.dtype
    y.backward(np.ones(y.shape))
    assert x.grad.dtype == x.dtype


def test_a_python_number_is_not_rounded_to_16_bits_first():
    assert (tg.tensor([0.5], "float16") * 70000.0).item() == 35008  # 70000 alone is infinite there
    x = tg.tensor([100.0], "bfloat16")
    assert (x * 0.1).item() == np.float32(10.0)  # bfloat16's 0.1 is 0.1001
