"""One helper for all ops: it walks the registry, so no new op can be forgotten."""

import numpy as np
import pytest

import tinygrad_llm.ops  # noqa: F401
from tinygrad_llm.autograd import REGISTRY, Function, Tensor, enable_grad, no_grad
from tinygrad_llm.autograd.gradcheck import gradcheck
from tinygrad_llm.autograd.registry import planted
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import GradientError
from tinygrad_llm.explain.proof import differentiable_call

CASES = [
    pytest.param(op, s, id=f"{op.name}-{s.label or i}")
    for op in REGISTRY.values()
    for i, s in enumerate(op.samples(np.random.default_rng(7)))
]


@pytest.mark.parametrize(("op", "s"), CASES)
def test_gradient_is_the_slope(op, s):
    run, inputs = differentiable_call(op.function.apply, s)
    report = gradcheck(run, inputs)
    assert report.error < 1e-6
    assert len(report.entries) == len(inputs) > 0


@pytest.mark.parametrize("op", REGISTRY.values(), ids=lambda op: op.name)
def test_every_planted_wrong_gradient_is_caught(op):
    for name, wrong in op.wrong.items():
        broken = planted(op.function, wrong)
        caught = 0
        for s in op.samples(np.random.default_rng(7)):
            run, inputs = differentiable_call(broken.apply, s)
            try:
                gradcheck(run, inputs)
            except GradientError:
                caught += 1
        assert caught, f"{op.name}: the mistake {name!r} was not caught"


@pytest.mark.parametrize(("op", "s"), CASES)
def test_a_gradient_wrong_by_a_thousandth_is_caught(op, s):
    def backward(ctx, *dy):
        grads = op.function.backward(ctx, *dy)
        grads = grads if isinstance(grads, tuple) else (grads,)
        return tuple(None if g is None else g * 1.001 for g in grads)

    broken = type("Broken", (op.function,), {"backward": backward, "name": op.name})
    run, inputs = differentiable_call(broken.apply, s)
    with pytest.raises(GradientError):
        gradcheck(run, inputs)


def float_results(out):
    return [o for o in (out if isinstance(out, tuple) else (out,)) if is_float(o.dtype)]


@pytest.mark.parametrize(("op", "s"), CASES)
def test_float32_stays_float32_and_is_close(op, s):
    run, inputs = differentiable_call(op.function.apply, s)
    if op.name == "cast":
        pytest.skip("changes the type on purpose")
    narrow = [Tensor(x.astype(np.float32), requires_grad=True) for x in inputs]
    outs = float_results(run(*narrow))
    expected = float_results(run(*[Tensor(x) for x in inputs]))
    for o, e in zip(outs, expected, strict=True):
        assert o.dtype == np.float32
        np.testing.assert_allclose(o.numpy(), e.numpy(), rtol=2e-5, atol=2e-6)
    sum((o.sum() for o in outs[1:]), outs[0].sum()).backward()
    for x in narrow:
        assert x.grad is not None
        assert x.grad.dtype == np.float32
        assert x.grad.shape == x.shape


@pytest.mark.parametrize(("op", "s"), CASES)
def test_memory_layout_does_not_matter(op, s):
    run, inputs = differentiable_call(op.function.apply, s)

    def strided(x):
        if not x.ndim:
            return x
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]))[..., ::-2]
        wide[...] = x
        return np.asfortranarray(wide) if x.ndim == 2 else wide

    plain = [Tensor(x.copy(), requires_grad=True) for x in inputs]
    odd = [Tensor(strided(x), requires_grad=True) for x in inputs]
    for a, b in zip(float_results(run(*plain)), float_results(run(*odd)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)
        a.sum().backward(retain_graph=True)
        b.sum().backward(retain_graph=True)
    for x, y in zip(plain, odd, strict=True):
        np.testing.assert_allclose(x.grad, y.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("op", "s"), CASES)
def test_inputs_are_not_written_into(op, s):
    run, inputs = differentiable_call(op.function.apply, s)
    tensors = [Tensor(x.copy(), requires_grad=True) for x in inputs]
    outs = float_results(run(*tensors))
    dys = [np.ones(o.shape) for o in outs]
    for o, dy in zip(outs, dys, strict=True):
        o.backward(dy, retain_graph=True)
        np.testing.assert_array_equal(dy, 1.0)
    for x, t in zip(inputs, tensors, strict=True):
        np.testing.assert_array_equal(x, t.data)


COMPOSED = [c for c in CASES if c.values[0].composed is not None]


@pytest.mark.parametrize(("op", "s"), COMPOSED)
def test_fused_equals_composed(op, s):
    results = []
    for function in (op.function.apply, op.composed):
        run, inputs = differentiable_call(function, s)
        tensors = [Tensor(x.copy(), requires_grad=True) for x in inputs]
        with enable_grad():
            outs = float_results(run(*tensors))
        sum(((o * o).sum() for o in outs[1:]), (outs[0] * outs[0]).sum()).backward()
        results.append([o.numpy() for o in outs] + [t.grad for t in tensors])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("op", REGISTRY.values(), ids=lambda op: op.name)
def test_without_grad_nothing_is_recorded(op):
    s = op.samples(np.random.default_rng(7))[0]
    run, inputs = differentiable_call(op.function.apply, s)
    with no_grad():
        out = run(*[Tensor(x, requires_grad=True) for x in inputs])
    assert all(o.is_leaf and not o.requires_grad for o in float_results(out))


def test_every_op_has_mathematics_in_its_docstring():
    for op in REGISTRY.values():
        assert issubclass(op.function, Function)
        assert "Shapes:" in op.doc, op.name
        assert "=" in op.doc, op.name
