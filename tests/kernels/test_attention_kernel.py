from __future__ import annotations

import numpy as np
import pytest
from tinygrad_llm.kernels.attention_kernel import forward, order

from tests.kernels import kernel_references as reference
from tinygrad_llm import kernels

KEY = (0x9E3779B9, 0x7F4A7C15)
# (B, H, T, S, D): one element; odd everything; longer keys; longer queries; several blocks
SHAPES = [
    (1, 1, 1, 1, 16),
    (2, 3, 13, 13, 20),
    (1, 2, 37, 101, 64),
    (1, 2, 90, 41, 32),
    (1, 1, 300, 300, 64),
    (1, 1, 33, 47, 128),
    (1, 1, 17, 35, 256),
]


def _draw(device, shape, dtype="float32"):
    b, h, t, s, d = shape
    sizes = (t, s, s, t)
    return [device.normal((b, h, n, d), dtype) for n in sizes]  # q, k, v, do


def _check_all(device, got, expected, dtype, factor=2.0):
    for actual, wanted in zip(got, expected, strict=True):
        device.check(actual, wanted, dtype, factor=factor)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_backward(device, shape, causal):
    q, k, v, do = _draw(device, shape)
    moved = [device.put(a) for a in (q, k, v)]
    o, lse = kernels.attention(*moved, causal)
    gradients = kernels.attention_backward(device.put(do), *moved, o, lse, causal)
    *expected, expected_lse = reference.attention(q, k, v, do, causal)
    _check_all(device, (o, *gradients), expected, "float32")
    np.testing.assert_allclose(device.get(lse), expected_lse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 2, 70, 70, 48), (1, 1, 232, 168, 64), (1, 1, 104, 150, 33)], ids=str
)
def test_low_precision(device, dtype, shape, causal):
    q, k, v, do = _draw(device, shape, dtype)
    moved = [device.put(a) for a in (q, k, v)]
    o, lse = kernels.attention(*moved, causal)
    gradients = kernels.attention_backward(device.put(do), *moved, o, lse, causal)
    *expected, _ = reference.attention(q, k, v, do, causal)
    _check_all(device, (o, *gradients), expected, dtype)


FORMS = {
    "pointers": lambda c: not c["DESCRIBED"],
    "described": lambda c: c["DESCRIBED"] and not c["PERSISTENT"],
    "persistent": lambda c: c["PERSISTENT"],
}


@pytest.fixture(params=list(FORMS))
def form(request, monkeypatch):
    """How the forward kernel reads and which program takes which block, one way after the other."""
    every = forward.forward_configs

    def chosen(*arguments):
        found = [c for c in every(*arguments) if FORMS[request.param](c)]
        return found or pytest.skip(f"no tile for {request.param} on this chip")

    monkeypatch.setattr(forward, "forward_configs", chosen)
    return request.param


# ragged ends of one and of several blocks; longer keys; longer queries; a head that is padded
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 150, 150, 64),
        (1, 2, 70, 301, 64),
        (1, 2, 301, 170, 32),
        (1, 1, 130, 140, 128),
        (1, 2, 31, 41, 40),
    ],
    ids=str,
)
def test_every_form_of_the_forward_kernel(device, form, shape, causal, monkeypatch):
    q, k, v, do = _draw(device, shape, "bfloat16")
    one = 2 * k[0, 0].nbytes
    monkeypatch.setattr(order, "CACHED_BYTES", 4 * one)  # six heads are four and two
    assert order.heads_together(q, k) == min(4, shape[0] * shape[1])
    out = device.put(np.full_like(q, np.nan))  # a block that no program takes stays NaN
    o, lse = kernels.attention(*map(device.put, (q, k, v)), causal, out=out)
    expected, *_, expected_lse = reference.attention(q, k, v, do, causal)
    device.check(o, expected, "bfloat16")
    np.testing.assert_allclose(device.get(lse), expected_lse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_the_next_sequence_of_a_packed_batch_is_not_read(device, form, causal):
    """T = 21 is no multiple of a block; what follows in memory are queries and keys of NaN."""
    b, t, h, d = 3, 21, 2, 64
    qkv = device.normal((b, t, 3 * h * d), "bfloat16")
    q, k, v = qkv.reshape(b, t, 3, h, d).transpose(2, 0, 3, 1, 4)
    expected, *_ = reference.attention(q, k, v, q, causal)
    qkv[1:] = np.nan
    y, _ = kernels.attention_qkv(device.put(qkv), h, causal)
    device.check(y[:1], expected[:1].transpose(0, 2, 1, 3).reshape(1, t, h * d), "bfloat16")


@pytest.mark.parametrize("shape", [(2, 2, 19, 19, 16), (1, 3, 11, 70, 16)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_dropout_draws_the_agreed_bits(device, shape, causal):
    b, h, t, s, _ = shape
    q, k, v, do = _draw(device, shape)
    keep = reference.keep(KEY, np.arange(b * h * t * s).reshape(b, h, t, s), 0.3)
    options = {"causal": causal, "dropout_p": 0.3, "key": KEY}
    moved = [device.put(a) for a in (q, k, v)]
    o, lse = kernels.attention(*moved, **options)
    gradients = kernels.attention_backward(device.put(do), *moved, o, lse, **options)
    *expected, _ = reference.attention(q, k, v, do, causal, keep=keep, p=0.3)
    _check_all(device, (o, *gradients), expected, "float32")
    options["key"] = device.put(np.array(KEY, np.uint32))  # the key in device memory
    np.testing.assert_array_equal(
        device.get(kernels.attention(*moved, **options)[0]), device.get(o)
    )


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_packed_projections_without_copies(device, p):
    b, t, h, d = 2, 21, 3, 16
    qkv, dy = device.normal((b, t, 3 * h * d)), device.normal((b, t, h * d))
    q, k, v = qkv.reshape(b, t, 3, h, d).transpose(2, 0, 3, 1, 4)
    do = dy.reshape(b, t, h, d).transpose(0, 2, 1, 3)
    keep = reference.keep(KEY, np.arange(b * h * t * t).reshape(b, h, t, t), p)
    o, dq, dk, dv, _ = reference.attention(q, k, v, do, True, keep=keep, p=p)
    options = {"dropout_p": p, "key": KEY}
    y, lse = kernels.attention_qkv(device.put(qkv), h, **options)
    device.check(y, o.transpose(0, 2, 1, 3).reshape(b, t, h * d), "float32", factor=2)
    dqkv = kernels.attention_qkv_backward(device.put(dy), device.put(qkv), y, lse, h, **options)
    expected = np.stack([dq, dk, dv], 2).transpose(0, 3, 2, 1, 4).reshape(b, t, 3 * h * d)
    device.check(dqkv, expected, "float32", factor=2)


def test_scale_and_strides(device):
    q, k, v, do = _draw(device, (2, 2, 10, 12, 16))
    o, dq, dk, dv, _ = reference.attention(q, k, v, do, scale=0.7)

    def as_bthd(a):  # the same values, heads and rows swapped in memory
        return device.put(np.ascontiguousarray(a.swapaxes(1, 2))).swapaxes(1, 2)

    moved = as_bthd(q), as_bthd(k), as_bthd(v)
    got, lse = kernels.attention(*moved, scale=0.7)
    gradients = kernels.attention_backward(as_bthd(do), *moved, got, lse, scale=0.7)
    _check_all(device, (got, *gradients), (o, dq, dk, dv), "float32")


def test_scores_far_from_zero_do_not_overflow(device):
    q, k, v, do = _draw(device, (1, 1, 40, 40, 16))
    q, k = q * 40, np.abs(k) * 40  # scores of several thousand on both sides
    moved = [device.put(a) for a in (q, k, v)]
    o, lse = kernels.attention(*moved, True)
    gradients = kernels.attention_backward(device.put(do), *moved, o, lse, True)
    *expected, _ = reference.attention(q, k, v, do, True)
    # a score of thousands that is off by 1e-6 of itself moves a probability by some 1e-3
    _check_all(
        device, (o, *gradients), expected, "float32", factor=500 if device.name == "cpu" else 2500
    )


def test_a_query_that_sees_no_key_gives_zeros(device):
    q, k, v, do = _draw(device, (1, 1, 5, 3, 16))
    moved = [device.put(a) for a in (q, k, v)]
    o, lse = kernels.attention(*moved, True)
    dq, _, _ = kernels.attention_backward(device.put(do), *moved, o, lse, True)
    assert not device.get(o)[0, 0, :2].any()
    assert not device.get(dq)[0, 0, :2].any()
    assert np.isneginf(device.get(lse)[0, 0, :2]).all()


def test_nan_stays_in_its_query(device):
    q, k, v, _ = _draw(device, (1, 1, 20, 20, 16))
    q[0, 0, 7, 3] = np.nan
    o = device.get(kernels.attention(device.put(q), device.put(k), device.put(v))[0])
    np.testing.assert_array_equal(np.isnan(o).any(-1)[0, 0], np.arange(20) == 7)


def test_empty(device):
    q, k = np.empty((2, 3, 0, 16), np.float32), device.normal((2, 3, 5, 16))
    o, lse = kernels.attention(device.put(q), device.put(k), device.put(k))
    assert o.shape == (2, 3, 0, 16)
    o, lse = kernels.attention(device.put(k), device.put(q), device.put(q))
    assert not device.get(o).any()


@pytest.mark.parametrize(("length", "d"), [(1, 16), (63, 20), (200, 64), (0, 16)])
def test_decode_against_a_cache(device, dtype, length, d):
    q, k, v = (device.normal((2, 3, n, d), dtype) for n in (1, 200, 200))
    k[:, :, length:] = v[:, :, length:] = np.nan  # rows that nothing may read
    expected, *_ = reference.attention(q, k[:, :, :length], v[:, :, :length], q)
    moved = [device.put(a) for a in (q, k, v)]
    device.check(kernels.attention_decode(*moved, length), expected, dtype)
    on_device = device.put(np.array([length], np.int32))
    device.check(kernels.attention_decode(*moved, on_device), expected, dtype)


def test_decode_of_the_whole_cache_by_default(device):
    q, k, v = (device.normal((1, 2, n, 32)) for n in (1, 77, 77))
    expected, *_ = reference.attention(q, k, v, q)
    device.check(kernels.attention_decode(*map(device.put, (q, k, v))), expected, "float32")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {
                "q": np.ones((1, 1, 2, 300), np.float32),
                "k": np.ones((1, 1, 2, 300), np.float32),
                "v": np.ones((1, 1, 2, 300), np.float32),
            },
            "head size must be 1 to 256, got 300",
        ),
        (
            {"k": np.ones((1, 2, 4, 8), np.float32), "v": np.ones((1, 2, 4, 8), np.float32)},
            "must agree in batch, heads and head size",
        ),
        ({"v": np.ones((1, 1, 3, 8), np.float32)}, "of one shape"),
        ({"q": np.ones((1, 1, 2, 8))}, "q must be an array of float32"),
        ({"q": np.ones((1, 1, 2, 8), np.float16)}, "must have one dtype"),
        ({"scale": -1.0}, "scale must be positive"),
        ({"dropout_p": 0.1}, "needs key="),
    ],
)
def test_refusals(change, words):
    arguments = {
        "q": np.ones((1, 1, 2, 8), np.float32),
        "k": np.ones((1, 1, 4, 8), np.float32),
        "v": np.ones((1, 1, 4, 8), np.float32),
        **change,
    }
    with pytest.raises(kernels.KernelError, match="attention: .*" + words):
        kernels.attention(**arguments)
    assert words.split(",")[0] in kernels.attention.supports(**arguments)


def test_refusals_of_decode_and_qkv():
    cache = np.ones((1, 1, 4, 8), np.float32)
    with pytest.raises(kernels.KernelError, match="length must be 0 to 4, .* got 5"):
        kernels.attention_decode(cache[:, :, :1], cache, cache, 5)
    with pytest.raises(kernels.KernelError, match="q must have one row"):
        kernels.attention_decode(cache, cache, cache)
    with pytest.raises(kernels.KernelError, match="C a multiple of n_head=5"):
        kernels.attention_qkv(np.ones((1, 2, 24), np.float32), 5)
