"""For every op: no gradient is dropped in silence, and none is computed from overwritten values."""

import inspect

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.backend import is_array
from tinygrad_llm.errors import GraphError, TinygradLLMError

CASES = [
    pytest.param(op, number, id=f"{name}-{number}")
    for name, op in REGISTRY.items()
    for number in range(len(op.samples(np.random.default_rng(0))))
]


def tensors_of(op, number):
    """Arguments of a sample, with a Tensor in place of every array."""
    sample = op.samples(np.random.default_rng(0))[number]

    def as_tensor(x, constant=True):
        if not is_array(x):
            return x
        return tg.Tensor(x.copy(), requires_grad=x.dtype.kind == "f" and not constant)

    args = [as_tensor(a, i in sample.constant) for i, a in enumerate(sample.args)]
    return args, {name: as_tensor(v) for name, v in sample.kwargs.items()}


def only_tensors(args, kwargs):
    return [t for t in (*args, *kwargs.values()) if isinstance(t, tg.Tensor)]


def loss_of(op, args, kwargs):
    y = op.function.apply(*args, **kwargs)
    return sum((part * part.detach()).sum() for part in (y if isinstance(y, tuple) else (y,)))


def another(x):
    if x.dtype.kind == "b":
        return ~x
    return x[::-1].copy() if x.ndim and len(x) > 1 and (x != x[::-1]).any() else x * 0 + 1


@pytest.mark.parametrize(("op", "number"), CASES)
def test_an_argument_that_is_overwritten_too_early_is_an_error_or_does_not_matter(op, number):
    args, kwargs = tensors_of(op, number)
    loss_of(op, args, kwargs).backward()
    expected = [t.grad for t in only_tensors(args, kwargs)]
    for i in range(len(expected)):
        args, kwargs = tensors_of(op, number)
        tensors = only_tensors(args, kwargs)
        y = op.function.apply(*args, **kwargs)
        parts = y if isinstance(y, tuple) else (y,)
        dys = [tg.tensor(part.numpy()) for part in parts]
        with tg.no_grad():
            tensors[i][...] = another(tensors[i].numpy())
        try:
            sum((part * dy).sum() for part, dy in zip(parts, dys, strict=True)).backward()
        except GraphError as error:
            if "overwritten" not in str(error):
                raise
            continue
        for t, gradient in zip(tensors, expected, strict=True):
            assert (t.grad is None) == (gradient is None)
            if gradient is not None:
                np.testing.assert_allclose(t.grad, gradient, rtol=1e-12)


@pytest.mark.parametrize(("op", "number"), CASES)
def test_a_tensor_that_requires_a_gradient_gets_it_or_is_refused(op, number):
    sample = op.samples(np.random.default_rng(0))[number]
    names = [
        p.name
        for p in list(inspect.signature(op.function.forward).parameters.values())[1:]
        if p.kind is not p.VAR_POSITIONAL
    ]
    for name in names[len(sample.args) :]:
        given = tg.tensor(0.5, requires_grad=True)
        with pytest.raises(GraphError, match=f"{name}= is a tensor that requires a gradient"):
            op.function.apply(*map(_constant, sample.args), **{**sample.kwargs, name: given})
        with tg.no_grad():
            try:
                op.function.apply(*map(_constant, sample.args), **{**sample.kwargs, name: given})
            except (TinygradLLMError, TypeError, ValueError, AttributeError, IndexError):
                pass  # a number may be no value for it; gradients are not the reason


def _constant(x):
    return tg.Tensor(x) if is_array(x) else x


@pytest.mark.parametrize(("op", "number"), CASES)
def test_gradients_share_no_memory_and_the_one_that_arrives_stays(op, number):
    args, kwargs = tensors_of(op, number)
    leaves = [t for t in only_tensors(args, kwargs) if t.requires_grad]
    values = [t.numpy().copy() for t in leaves]
    y = op.function.apply(*args, **kwargs)
    parts = y if isinstance(y, tuple) else (y,)
    dys = [np.random.default_rng(i).normal(size=part.shape) for i, part in enumerate(parts)]
    given = [dy.copy() for dy in dys]
    for part, dy in zip(parts, dys, strict=True):
        part.backward(dy, retain_graph=True)
    arrays = [t.grad for t in leaves if t.grad is not None] + dys + [t.numpy() for t in leaves]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    first = [None if t.grad is None else t.grad.copy() for t in leaves]
    for part, dy in zip(parts, dys, strict=True):
        part.backward(dy, retain_graph=True)
    for t, value, gradient in zip(leaves, values, first, strict=True):
        np.testing.assert_array_equal(t.numpy(), value)
        if gradient is not None:
            np.testing.assert_allclose(t.grad, 2 * gradient, rtol=1e-12)
    for dy, before in zip(dys, given, strict=True):
        np.testing.assert_array_equal(dy, before)
