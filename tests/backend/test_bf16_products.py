"""Products from bfloat16 operands: against float64 products of the same rounded numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.backend import bf16_products, compute, rounding, threads
from tinygrad_llm.backend.products import Product
from tinygrad_llm.nn.prepared import Prepared

numkong = pytest.importorskip("numkong")
ml_dtypes = pytest.importorskip("ml_dtypes")
BF16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(autouse=True)
def medium(monkeypatch):
    monkeypatch.setenv("TINYGRAD_LLM_MATRIX_UNITS", "on")
    with tg.float32_matmul_precision("medium"):
        yield


def matrix(rng, rows, columns, turned):
    x = rng.standard_normal((columns, rows) if turned else (rows, columns), dtype=np.float32)
    return x.T if turned else x


def exact(a, b):
    """The product of the rounded operands, and the largest that rounding errors may be."""
    wide = [x.astype(BF16).astype(np.float64) for x in (a, b)]
    return wide[0] @ wide[1], 2e-6 * (np.abs(wide[0]) @ np.abs(wide[1]))


def packings(monkeypatch):
    """A list that grows by one with each packed operand."""
    seen = []
    pack = numkong.dots_pack
    monkeypatch.setattr(numkong, "dots_pack", lambda x: seen.append(x.shape) or pack(x))
    return seen


SIZES = st.sampled_from([1, 2, 17, 33, 64, 300])


@settings(max_examples=60, deadline=None)
@given(
    m=SIZES,
    k=st.sampled_from([32, 33, 100, 257]),
    n=SIZES,
    turned=st.tuples(st.booleans(), st.booleans()),
    narrow=st.tuples(st.booleans(), st.booleans()),
    n_threads=st.sampled_from([1, 2, 3]),
    add=st.booleans(),
)
def test_any_layout_any_threads(m, k, n, turned, narrow, n_threads, add):
    rng = np.random.default_rng(m * k * n)
    a, b = matrix(rng, m, k, turned[0]), matrix(rng, k, n, turned[1])
    want, slack = exact(a, b)
    a, b = (x.astype(BF16) if rounded else x for x, rounded in zip((a, b), narrow, strict=True))
    out = np.ones((m, n), np.float32)
    pieces = []
    before = threads.num_threads()
    threads.set_num_threads(n_threads)
    try:
        product = Product(a, b, out, lambda rows, columns: pieces.append((rows, columns)))
        bf16_products.compute_all([product], add=add)
    finally:
        threads.set_num_threads(before)
    assert (np.abs(out - want - add) <= slack + 1e-6).all()
    covered = np.zeros((m, n), int)
    for rows, columns in pieces:
        covered[rows, columns] += 1
    assert (covered == 1).all()  # each element is finished once


def test_rounding_is_to_the_nearest_ties_to_even():
    special = [0.0, -0.0, np.inf, -np.inf, 3.4e38, 1e-45, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8]
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 99 * 70 - len(special), dtype=np.uint32).view(np.float32)
    x = np.concatenate([special, np.nan_to_num(bits, nan=1.0)]).astype(np.float32)
    with np.errstate(over="ignore"):
        for layout in (x.reshape(99, 70), x.reshape(70, 99).T, x.reshape(99, 70)[:, 3:60]):
            got = rounding.rounded(layout)
            assert got.flags.c_contiguous
            np.testing.assert_array_equal(got.view(np.uint16), layout.astype(BF16).view(np.uint16))
    assert np.isnan(rounding.rounded(np.full((1, 40), np.nan, np.float32)).astype(np.float32)).all()


def test_float32_is_left_alone():
    """Products in the default precision are BLAS's, and numkong is not even imported."""
    a, b = np.float32([[1 / 3] * 64] * 40), np.float32([[1 / 3] * 50] * 64)
    with tg.float32_matmul_precision("highest"):
        assert not bf16_products.takes(a, b)
        assert compute.operand(np, a) is a
    program = (
        "import sys, tinygrad_llm as tg\n"
        "layer = tg.nn.Linear(64, 64)\n"
        "layer(tg.ones((64, 64))).sum().backward()\n"
        "sys.exit('numkong' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_is_not_worth_it_is_left_to_blas():
    def takes(m, k, n, dtype=np.float32):
        return bf16_products.takes(np.ones((m, k), dtype), np.ones((k, n), dtype))

    assert takes(100, 64, 64)
    assert not takes(100, 16, 64)  # a short sum
    assert not takes(4, 64, 64)  # few rows: rounding b costs more than multiplying by it
    assert not takes(100, 64, 64, np.float64)
    assert not takes(100, 64, 64, np.float16)
    assert not takes(100, 64, 0)


def test_fixed_weights_are_packed_once(monkeypatch):
    seen = packings(monkeypatch)
    x, w = np.ones((40, 64), np.float32), np.ones((96, 64), np.float32)
    few = x[:2]
    with compute.fixed(np, w):
        first = compute.matmul(np, few, w.T)
        n_pieces = len(seen)
        compute.matmul(np, few, w.T)
        assert len(seen) == n_pieces > 0
        compute.matmul(np, x, np.ones((64, 64), np.float32))  # another matrix is not kept
        compute.matmul(np, x, np.ones((64, 64), np.float32))
        assert len(seen) > n_pieces + 1
    w[:] = 2
    with compute.fixed(np, w):
        np.testing.assert_array_equal(compute.matmul(np, few, w.T), 2 * first)


def test_written_weights_are_prepared_anew():
    model = tg.nn.Linear(64, 64, bias=False)
    optimizer = tg.optim.SGD(model, lr=1.0)
    x = tg.ones((40, 64))
    prepared = Prepared(model)
    with prepared, tg.no_grad():
        before = model(x).numpy().copy()
    model(x).sum().backward()
    optimizer.step()  # each weight falls by 40, the sum of its gradients
    with prepared, tg.no_grad():
        after = model(x).numpy()
    np.testing.assert_allclose(after, before - 40 * 64, rtol=0.01)


def gradients(op, arrays, dtype, precision):
    tensors = [tg.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    with tg.float32_matmul_precision(precision):
        y = op(*tensors)
        (y * y).sum().backward()
    return [y.data, *(t.grad for t in tensors)]


OPS = {
    "linear": (tg.functional.linear, [(3, 40, 48), (64, 48), (64,)]),
    "linear, wide": (tg.functional.linear, [(40, 48), (200, 48), (200,)]),
    "feed_forward": (tg.functional.feed_forward, [(70, 48), (96, 48), (96,), (48, 96), (48,)]),
    "matmul": (tg.functional.matmul, [(50, 64), (64, 70)]),
}


@pytest.mark.parametrize("name", OPS)
def test_gradients_stay_near_those_of_float64(name):
    op, shapes = OPS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) * 0.5 for shape in shapes]
    want = gradients(op, arrays, np.float64, "highest")
    got = gradients(op, arrays, np.float32, "medium")
    for g, w in zip(got, want, strict=True):
        error = np.linalg.norm(g - w) / np.linalg.norm(w)
        assert g.dtype == np.float32
        assert 1e-5 < error < 1e-2  # bfloat16 has 8 bits: 2^-9 at most, a third of it on average


@pytest.mark.parametrize("chunk_rows", [100, 30])
def test_the_loss_of_a_vocabulary(chunk_rows):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((100, 64)), rng.standard_normal((301, 64)) * 0.3
    targets = rng.integers(0, 301, 100)

    def op(x, w):
        return tg.functional.linear_cross_entropy(x, w, targets, chunk_rows=chunk_rows)

    want = gradients(op, [x, w], np.float64, "highest")
    got = gradients(op, [x, w], np.float32, "medium")
    for g, exact_g in zip(got, want, strict=True):
        error = np.linalg.norm(g - exact_g) / np.linalg.norm(exact_g)
        assert 1e-7 < error < 1e-2


def test_the_precision_may_change_between_the_passes():
    rng = np.random.default_rng(0)
    x, w = (tg.tensor(rng.standard_normal((64, 64)), dtype="float32") for _ in range(2))
    x.requires_grad = w.requires_grad = True
    y = tg.functional.linear(x, w)
    with tg.float32_matmul_precision("highest"):
        y.sum().backward()
    for got, want in ((x.grad, w.numpy().sum(axis=0)), (w.grad, x.numpy().sum(axis=0))):
        np.testing.assert_allclose(got, np.broadcast_to(want, (64, 64)), atol=0.1)


def test_models_of_bfloat16_are_multiplied_so_too():
    layer = tg.nn.Linear(64, 80).to("bfloat16")
    x = tg.randn((40, 64)).to("bfloat16")
    wide = x.numpy().astype(np.float64) @ layer.weight.numpy().astype(np.float64).T
    got = layer(x)
    assert got.dtype == BF16
    want = wide + layer.bias.numpy().astype(np.float64)
    np.testing.assert_allclose(got.numpy().astype(np.float64), want, rtol=0.02, atol=0.02)
