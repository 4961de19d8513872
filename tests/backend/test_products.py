"""Matrix products in pieces: the right numbers, each piece finished once, tasks beside them."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.backend import products, threads


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    before = threads.num_threads()
    monkeypatch.setattr(products, "WORTH_SPLITTING", 0)
    yield
    threads.set_num_threads(before)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(300, 200, 400), (1, 700, 5000), (4000, 33, 17), (5, 4, 3)])
def test_matmul_in_pieces(shape, n_threads):
    m, k, n = shape
    a, b, bias = random(m, k), random(n, k).T, random(n)
    threads.set_num_threads(n_threads)
    out, finished = np.full((m, n), np.nan), np.zeros((m, n), int)

    def finish(rows, columns):
        out[rows, columns] += bias[columns]
        finished[rows, columns] += 1

    assert products.matmul(a, b, out, finish) is out
    np.testing.assert_allclose(out, a @ b + bias, atol=1e-12)
    assert (finished == 1).all()


@pytest.mark.parametrize("turns", [True, False])
@pytest.mark.parametrize("m", [1, 2, 5, products.FEW_ROWS, products.FEW_ROWS + 1])
def test_a_few_rows_may_be_multiplied_the_other_way_round(monkeypatch, turns, m):
    monkeypatch.setattr(products, "_turns", lambda dtype: turns)
    threads.set_num_threads(2)
    x, w, bias = (random(*shape).astype(np.float32) for shape in ((m, 70), (90, 70), (90,)))
    y, wide = np.full((m, 90), np.nan, np.float32), np.full((m, 200), np.nan, np.float32)
    products.matmul(x, w.T, y, lambda rows, columns: y[rows, columns].__iadd__(bias[columns]))
    np.testing.assert_allclose(y, x @ w.T + bias, rtol=1e-4, atol=1e-4)
    products.matmul(x, w.T, wide[:, 7:97])  # a part of something wider
    np.testing.assert_allclose(wide[:, 7:97], x @ w.T, rtol=1e-4, atol=1e-4)
    assert np.isnan(wide[:, :7]).all()
    assert np.isnan(wide[:, 97:]).all()


def test_only_the_kernels_that_gain_by_it_turn_a_few_rows(monkeypatch):
    for kernels, gains in (("SkylakeX", True), ("Haswell", False), (None, False)):
        products._turns.cache_clear()
        pools = [{"user_api": "openmp"}, {"architecture": kernels}]
        monkeypatch.setattr("threadpoolctl.threadpool_info", lambda pools=pools: pools)
        assert products._turns(np.dtype(np.float32)) == gains
        assert not products._turns(np.dtype(np.float64))
    products._turns.cache_clear()


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
def test_several_products_and_tasks_beside_them(n_threads):
    dy, w, x = random(120, 70), random(70, 50), random(120, 50)
    threads.set_num_threads(n_threads)
    dx, dw, done = np.full((120, 50), np.nan), np.full((70, 50), np.nan), []
    beside = [lambda: done.append("sum"), lambda: done.append("other")]
    products.compute_all([products.Product(dy, w, dx), products.Product(dy.T, x, dw)], beside)
    np.testing.assert_allclose(dx, dy @ w, atol=1e-12)
    np.testing.assert_allclose(dw, dy.T @ x, atol=1e-12)
    assert sorted(done) == ["other", "sum"]


def test_tasks_without_products():
    done = []
    products.compute_all([], [lambda: done.append(1)])
    assert done == [1]


@pytest.mark.parametrize("shapes", [((3, 4), (4, 2)), ((2, 3, 4), (4, 5)), ((4,), (4,))])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_product_of_one_type_has_that_type(shapes, dtype):
    a, b = (tg.Tensor(random(*shape), dtype) for shape in shapes)
    y = a @ b
    assert y.dtype == a.dtype
    np.testing.assert_allclose(y.numpy().astype(float), a.numpy() @ b.numpy(), rtol=1e-2, atol=1e-2)
