"""The fast path of training against the plain one; threads; memory of a steady step."""

import gc
import tracemalloc

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd import versions
from tinygrad_llm.backend import pool, products, threads
from tinygrad_llm.explain.small_ops import small_ops


def losses(n_steps, c=32, t=16, batch=4, v=50, n_layer=2, dtype="float32"):
    """Losses of some AdamW steps on a fixed pattern of random ids."""
    tg.manual_seed(0)
    model = tg.nn.GPT(tg.nn.GPTConfig(v, t, n_layer, 2, c)).to(dtype)
    optimizer = tg.optim.AdamW(model, lr=1e-3)
    ids = np.random.default_rng(0).integers(0, v, (5, batch, t + 1))
    found = []
    for i in range(n_steps):
        batch_ids = ids[i % 5]
        optimizer.zero_grad()
        loss = model.loss(batch_ids[:, :-1], batch_ids[:, 1:])
        loss.backward()
        tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()
        found.append(loss.item())
    return np.array(found)


@pytest.fixture(scope="module")
def fused_losses():
    return {dtype: losses(200, dtype=dtype) for dtype in ("float32", "float64")}


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-9), ("float32", 1e-3)])
def test_200_steps_have_the_losses_of_the_composed_engine(fused_losses, dtype, bound):
    with small_ops():
        plain = losses(200, dtype=dtype)
    assert plain[-1] < 0.6 * plain[0]  # it did learn
    np.testing.assert_allclose(fused_losses[dtype], plain, rtol=bound)


def test_one_thread_and_two_give_equal_losses(monkeypatch):
    monkeypatch.setattr(products, "WORTH_SPLITTING", 0)
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)
    before = threads.num_threads()
    found = []
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        found.append(losses(30, c=64, t=80))
    threads.set_num_threads(before)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


def make_step(**sizes):
    settings = {"vocab_size": 3000, "context_length": 128, "n_layer": 2, "n_head": 4, "n_embd": 128}
    config = tg.nn.GPTConfig(**{**settings, **sizes})
    model = tg.nn.GPT(config)
    optimizer = tg.optim.AdamW(model, lr=1e-3)
    shape = (4, config.context_length + 1)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, shape)

    def step():
        optimizer.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()

    return step


@pytest.mark.parametrize(("n_threads", "allowed"), [(1, 0), (2, 2)])
def test_a_steady_step_allocates_nothing_large(n_threads, allowed):
    """With two threads a block of scratch may come, once, when both first work at the same time."""
    before = threads.num_threads()
    threads.set_num_threads(n_threads)
    step = make_step()
    for _ in range(3):
        step()
    allocations = pool.statistics().allocations
    tracemalloc.start()
    for _ in range(5):
        step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    threads.set_num_threads(before)
    assert pool.statistics().allocations - allocations <= allowed
    assert pool.statistics().requests > 0
    # What is left are blocks of rows in the cache: 384 KB each, a few per thread.
    assert peak < 12 * 4 * threads.BLOCK_ELEMENTS * n_threads


def test_a_dropped_loss_gives_its_memory_back_at_once():
    model = tg.nn.GPT(tg.nn.GPTConfig(100, 128, 2, 4, 128))
    ids = np.zeros((4, 128), int)
    before = pool.statistics().in_use
    loss = model.loss(ids, ids)
    assert pool.statistics().in_use > before + 4 * 128 * 128 * 4
    del loss
    assert pool.statistics().in_use == before


@pytest.mark.slow
def test_memory_is_constant_over_2000_steps(monkeypatch):
    monkeypatch.setattr(versions._log, "_full", 64)  # else it holds 4096 writes before it forgets
    monkeypatch.setattr(versions._log, "_at_least", 64)
    step = make_step(vocab_size=65, context_length=32, n_layer=1, n_head=2, n_embd=64)
    for _ in range(50):
        step()
    tracemalloc.start()
    start, before = tracemalloc.get_traced_memory()[0], pool.statistics().allocations
    for _ in range(2000):
        step()
    gc.collect()  # empties Python's own lists of objects kept for reuse
    grown = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    assert pool.statistics().allocations == before
    assert grown < 100_000
