"""What a backward may return: one gradient per argument, of the argument's shape and type."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.gradcheck import gradcheck
from tinygrad_llm.autograd.registry import REGISTRY, planted
from tinygrad_llm.errors import GradientError
from tinygrad_llm.explain.proof import WRONG_FORMS, differentiable_call


def op(backward, forward=lambda ctx, a, b: a + b):
    """An op whose forward adds, with the backward to judge."""
    return type("Plus", (tg.Function,), {"forward": forward, "backward": backward}).apply


def operands(dtype=np.float32):
    a, b = np.ones((3, 4), dtype), np.ones(4, dtype)
    return tg.Tensor(a, requires_grad=True), tg.Tensor(b, requires_grad=True)


WRONG = {
    "the sum over the copies forgotten": (
        lambda ctx, dy: (dy, dy),
        r"'plus' .*float32 of shape \(3, 4\) .*argument 1; .*shape \(4,\).*repeated",
    ),
    "an axis kept": (
        lambda ctx, dy: (dy, dy.sum(axis=0, keepdims=True)),
        r"shape \(1, 4\) .*argument 1; .*shape \(4,\).*undo",
    ),
    "too small": (lambda ctx, dy: (dy.sum(), dy.sum(axis=0)), r"shape \(\) .*argument 0; .*\(3, 4"),
    "another type": (
        lambda ctx, dy: (dy, dy.sum(axis=0).astype(np.float64)),
        r"float64 of shape \(4,\) .*argument 1; expected float32.*astype",
    ),
    "integers": (lambda ctx, dy: (dy.astype(int), dy.sum(axis=0)), "int64 of shape"),
    "a number": (lambda ctx, dy: (1.0, dy.sum(axis=0)), "returned a float as"),
    "a Tensor": (lambda ctx, dy: (tg.Tensor(dy), dy.sum(axis=0)), "returned a Tensor as"),
    "one too few": (lambda ctx, dy: dy, "1 gradient for 2 arguments"),
    "one too many": (lambda ctx, dy: (dy, dy.sum(axis=0), None), "3 gradients for 2 arguments"),
}


@pytest.mark.parametrize("through", ["a leaf", "a result"])
@pytest.mark.parametrize(("backward", "says"), WRONG.values(), ids=WRONG)
def test_the_engine_refuses(backward, says, through):
    a, b = operands()
    if through == "a result":
        a, b = a * 1.0, b * 1.0
    with pytest.raises(GradientError, match=f"(?i){says}"):
        op(backward)(a, b).sum().backward()


@pytest.mark.parametrize("backward", [wrong for wrong, _ in WRONG.values()], ids=WRONG)
def test_gradcheck_refuses(backward):
    if backward is WRONG["another type"][0]:  # a check is in float64
        backward = lambda ctx, dy: (dy, dy.sum(axis=0).astype(np.float32))  # noqa: E731
    a, b = operands()
    with pytest.raises(GradientError, match="WRONG"):
        tg.gradcheck(op(backward), [a, b])
    report = tg.gradcheck(op(backward), [a, b], raise_error=False)
    assert not report.passed
    assert report.error == np.inf


def test_the_gradient_of_a_sum_must_be_spread():
    with pytest.raises(GradientError, match=r"shape \(\) .*expected float64 of shape \(3, 4\)"):
        tg.gradcheck(op(lambda ctx, dy: dy, lambda ctx, x: x.sum()), [np.ones((3, 4))])


def test_a_list_is_as_good_as_a_tuple():
    a, b = operands()
    op(lambda ctx, dy: [dy, dy.sum(axis=0)])(a, b).sum().backward()
    np.testing.assert_array_equal(b.grad, np.full(4, 3, np.float32))


def test_what_needs_no_gradient_may_be_given_one_of_any_shape():
    a, _ = operands()
    op(lambda ctx, dy: (dy, dy))(a, np.ones(4, np.float32)).sum().backward()
    assert a.grad.shape == (3, 4)


def test_a_leaf_without_axes_gets_an_array():
    x = tg.tensor(2.0, requires_grad=True)
    (x * x).backward()
    assert isinstance(x.grad, np.ndarray)
    assert x.grad.shape == ()
    assert x.grad.dtype == np.float32


def test_each_of_several_results_knows_its_shape():
    class Halves(tg.Function):
        def forward(ctx, x):
            return x[:1], x[1:]

        def backward(ctx, da, db):
            return ctx.xp.concatenate([np.zeros(1, np.float32) if da is None else da, db])

    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    _, b = Halves.apply(x)
    (b * b).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 4, 6])
    _, b = Halves.apply(x)
    with pytest.raises(GradientError, match=r"'plus' .*expected float32 of shape \(2,\)"):
        op(lambda ctx, dy: (dy[None], dy))(b, b).sum().backward()


@pytest.mark.parametrize("leaf", [True, False])
@pytest.mark.parametrize(
    "hook", [lambda g: g[0], lambda g: g.astype(np.float64), lambda g: tg.Tensor(g), lambda g: 1.0]
)
def test_a_hook_keeps_shape_and_type(hook, leaf):
    x, _ = operands()
    y = x if leaf else x * 2.0
    y.register_hook(hook)
    with pytest.raises(GradientError, match="register_hook: the hook returned"):
        (y * 1.0).sum().backward()


@pytest.mark.parametrize("form", WRONG_FORMS)
@pytest.mark.parametrize("entry", REGISTRY.values(), ids=lambda entry: entry.name)
def test_every_op_with_gradients_of_a_wrong_form_is_caught(entry, form):
    broken = planted(entry.function, WRONG_FORMS[form])
    for sample in entry.samples(np.random.default_rng(7)):
        with pytest.raises(GradientError, match="number, shapes and types"):
            gradcheck(*differentiable_call(broken.apply, sample))


def writes_into_the_buffer(into):
    """A doubling op that puts its gradient where an optimizer wants it, by the rule ``into``."""

    def backward(ctx, dy):
        target, accumulate = ctx.gradient_target(0)
        if target is None:
            return 2 * dy
        into(target, 2 * dy, accumulate)
        return target

    return op(backward, lambda ctx, x: 2 * x)


def overwrite(target, dx, accumulate):
    target[...] = dx


def add(target, dx, accumulate):
    target += dx


def as_told(target, dx, accumulate):
    target[...] = target + dx if accumulate else dx


@pytest.mark.parametrize(("into", "says"), [(overwrite, "second"), (add, "first")])
def test_gradcheck_notices_a_wrong_write_into_an_optimizers_array(into, says):
    with pytest.raises(GradientError, match=f"input 0: another gradient .*{says}"):
        tg.gradcheck(writes_into_the_buffer(into), [np.ones(3)])
    assert tg.gradcheck(writes_into_the_buffer(as_told), [np.ones(3)]).passed


@pytest.mark.parametrize("unused_counts", [0.0, 1.0])
def test_gradcheck_notices_a_wrong_gradient_for_a_result_that_nobody_used(unused_counts):
    class Halves(tg.Function):
        def forward(ctx, x):
            return x[:2], x[2:]

        def backward(ctx, *dys):
            unused = np.full(2, unused_counts)
            return np.concatenate([unused if dy is None else dy for dy in dys])

    report = tg.gradcheck(Halves.apply, [np.ones(4)], raise_error=False)
    assert report.passed == (unused_counts == 0)
    assert report.passed or "each result alone" in str(report)
