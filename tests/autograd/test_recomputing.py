"""A part that is computed again in the backward pass."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.checkpoint import checkpoint


def leaf(*shape, seed=0):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def test_checkpoint_gives_the_same_gradients_and_saves_memory():
    w = leaf(4, 4)

    def block(x):
        return ((x @ w).tanh() @ w).tanh()

    grads = []
    for run in (block, lambda x: checkpoint(block, x)):
        x = leaf(2, 4, seed=1)
        run(run(x)).sum().backward()
        grads.append((x.grad, w.grad))
        w.zero_grad()
    for plain, again in zip(*grads, strict=True):
        np.testing.assert_array_equal(plain, again)


def test_checkpoint_leaves_the_random_state_alone_when_the_second_pass_fails():
    calls = []

    def fails_the_second_time(x):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("second")
        return tg.functional.dropout(x, 0.5)

    y = checkpoint(fails_the_second_time, leaf(3))
    tg.default_generator().uniform()
    before = tg.default_generator().state()
    with pytest.raises(KeyError, match="second"):
        y.sum().backward()
    assert tg.default_generator().state() == before
