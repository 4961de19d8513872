"""A part that is computed again in the backward pass."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.autograd.checkpoint import checkpoint
from tinygrad_llm.backend.random import Generator, default_generator
from tinygrad_llm.errors import GraphError


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


def test_checkpoint_draws_the_same_numbers_from_any_generator():
    own, nested = Generator(1), Generator(2)
    drop = nn.Dropout(0.5, generator=own)

    def twice_random(x):
        y = drop(x) * tg.rand(5, 5)  # of tg.manual_seed
        return checkpoint(lambda v: v * tg.rand(5, 5, generator=nested), y)

    x = tg.ones(5, 5, requires_grad=True)
    y = checkpoint(twice_random, x)
    stood = [generator.state() for generator in (own, nested, default_generator())]
    y.sum().backward()
    assert len(set(y.data.ravel().tolist())) > 5
    np.testing.assert_array_equal(x.grad, y.data)  # y = x times random numbers, and x is 1
    assert stood == [generator.state() for generator in (own, nested, default_generator())]


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


@pytest.mark.parametrize("wrong", [3, None, [1], (1, None)], ids=str)
def test_the_function_returns_tensors(wrong):
    with pytest.raises(GraphError, match="must return a Tensor or a tuple of Tensors, got "):
        checkpoint(lambda x: wrong, leaf(2))


def test_the_function_must_not_write_into_its_arguments():
    def residual(x, h):
        h += x.detach()
        return x * h

    with pytest.raises(GraphError, match="writes into its argument"):
        checkpoint(residual, leaf(2), tg.zeros(2, dtype="float64"))
    x = leaf(2)
    y = checkpoint(lambda x, h: residual(x, h.clone()), x, tg.zeros(2, dtype="float64"))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, x.data)
