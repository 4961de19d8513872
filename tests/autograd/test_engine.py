"""The backward walk and its misuses."""

import gc
import weakref

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import ConfigError


def leaf(*shape, seed=0):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def test_a_reused_tensor_gets_the_sum_of_its_contributions():
    a = tg.tensor(3.0, requires_grad=True)
    b = a + a
    c = b + b  # depth-first order would pass on b's gradient too early
    c.backward()
    assert a.grad == 4.0


def test_diamond():
    x = tg.tensor(2.0, requires_grad=True)
    y = x * x
    (y * y + y.exp() * y).backward()
    y0 = 4.0
    assert x.grad == pytest.approx((2 * y0 + np.exp(y0) * (y0 + 1)) * 4.0, rel=1e-6)


def test_second_backward_is_refused():
    x = leaf(3)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(tg.errors.GraphError, match="retain_graph"):
        loss.backward()


def test_retain_graph_allows_a_second_walk():
    x = leaf(3)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(x.grad, 4 * x.data)


def test_gradients_accumulate_into_leaves():
    x = leaf(3)
    for _ in range(2):
        (x * x).sum().backward()
    np.testing.assert_allclose(x.grad, 4 * x.data)
    x.zero_grad()
    assert x.grad is None


def test_leaves_that_share_a_gradient_do_not_share_its_memory():
    x, y = leaf(3), leaf(3, seed=1)
    for _ in range(2):
        (x + y).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, 2.0)
    np.testing.assert_array_equal(y.grad, 2.0)


def test_the_passed_gradient_is_not_kept():
    x, dy = leaf(3), np.ones(3)
    x.backward(dy)
    (x + 0).backward(dy)
    dy[...] = 7
    np.testing.assert_array_equal(x.grad, 2.0)


@pytest.mark.parametrize("walk", [True, False])
def test_a_chain_of_50_000_ops(walk):
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(50_000):
        y = y + 0.5
    if walk:
        y.backward()
        assert x.grad == 1.0
    del y  # and taking the chain down must not recurse either


def test_dropping_the_loss_frees_the_graph_at_once():
    gc.disable()  # reference counting alone must do it
    try:
        x = leaf(3)
        hidden = x.exp()
        loss = (hidden * hidden).sum()
        node = weakref.ref(hidden._node)
        array = weakref.ref(hidden.data)
        del hidden, loss
        assert node() is None
        assert array() is None
    finally:
        gc.enable()


def test_backward_frees_saved_arrays_as_it_goes():
    x = leaf(3)
    y = x.exp()
    z = y.exp()
    loss = z.sum()
    saved = weakref.ref(y.data)
    del y
    node = z._node
    loss.backward()
    del z
    assert saved() is None
    assert node.edges == ()


def test_saved_array_overwritten_is_refused():
    x = leaf(3)
    y = x.exp()
    with tg.no_grad():
        y[0] = 5.0
    with pytest.raises(tg.errors.GraphError, match="overwritten"):
        y.sum().backward()


def test_write_through_a_view_is_noticed():
    x = leaf(4)
    y = x.exp()
    view = y.detach().reshape(2, 2)
    view[0, 0] = 1.0
    with pytest.raises(tg.errors.GraphError, match="'exp'"):
        y.sum().backward()


def test_write_into_what_nobody_needs_is_allowed():
    x = leaf(3)
    y = x + 1.0
    with tg.no_grad():
        y[0] = 5.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, 1.0)


def test_only_scalars_start_without_a_gradient():
    with pytest.raises(tg.errors.GraphError, match=r"shape \(3,\)"):
        leaf(3).exp().backward()


def test_gradient_of_the_wrong_shape():
    with pytest.raises(tg.errors.ShapeError, match=r"\(3,\), got \(2,\)"):
        leaf(3).exp().backward(np.ones(2))


def test_nothing_to_differentiate():
    with pytest.raises(tg.errors.GraphError, match="requires_grad"):
        tg.tensor([1.0]).sum().backward()


def test_integer_cannot_require_a_gradient():
    with pytest.raises(tg.errors.DTypeError, match="floating-point"):
        tg.tensor([1, 2], requires_grad=True)


def test_op_without_backward_names_itself():
    class Mystery(tg.Function):
        def forward(ctx, x):
            return x + 1

    with pytest.raises(tg.errors.GraphError, match="'mystery' has no backward"):
        Mystery.apply(leaf(2)).sum().backward()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_out_of_memory_names_the_op_and_a_way_out(direction):
    class Huge(tg.Function):
        def forward(ctx, x):
            return x + 1 if direction == "backward" else np.empty((1 << 45,))

        def backward(ctx, dy):
            return np.empty((1 << 45,))

    with pytest.raises(tg.errors.OutOfMemoryError, match=f"{direction} of op 'huge'.*TiB.*batch"):
        Huge.apply(leaf(2)).sum().backward()


def test_no_grad_and_detach():
    x = leaf(3)
    with tg.no_grad():
        y = x * x
        with tg.enable_grad():
            z = x * x
    assert not y.requires_grad
    assert z.requires_grad
    (x.detach() * x).sum().backward()
    np.testing.assert_allclose(x.grad, x.data)


def test_hooks_see_and_change_the_whole_gradient():
    x = leaf(3)
    seen = []
    remove = x.register_hook(lambda g: seen.append(g.copy()))
    y = x.exp()
    y.register_hook(lambda g: 2 * g)
    y.register_hook(lambda g: 5 * g).remove()
    (y + x + x).sum().backward()
    np.testing.assert_allclose(seen[0], 2 * np.exp(x.data) + 2)
    assert len(seen) == 1  # three contributions, one call
    remove()
    x.zero_grad()
    (x * 2.0).sum().backward()
    assert len(seen) == 1


def test_retain_grad():
    x = leaf(3)
    y = x.exp().retain_grad()
    (y * y).sum().backward()
    np.testing.assert_allclose(y.grad, 2 * y.data)


def test_hooks_of_a_leaf_run_when_backward_begins_at_it():
    x = leaf(1)
    x.register_hook(lambda g: 2 * g)
    x.backward(np.ones(1))
    np.testing.assert_array_equal(x.grad, [2])


def test_retained_gradients_add_up_and_come_after_all_hooks():
    x = leaf(1)
    y = (x * 2.0).retain_grad().retain_grad()
    y.register_hook(lambda g: 10 * g)
    loss = y.sum()
    loss.backward(retain_graph=True)
    kept = y.grad
    np.testing.assert_array_equal(kept, [10])
    loss.backward()
    np.testing.assert_array_equal(y.grad, [20])
    np.testing.assert_array_equal(kept, [10])
    np.testing.assert_array_equal(x.grad, [40])


def test_several_outputs_and_unused_ones():
    x = leaf(6)
    a, b, c = x.split(3, axis=0)
    (a * 2.0 + c).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2, 0, 0, 1, 1])


def test_a_hook_must_be_callable():
    x = tg.tensor([1.0], requires_grad=True)
    for register in (x.register_hook, (x * 2).register_hook):
        with pytest.raises(ConfigError, match="register_hook: expected a function, got int"):
            register(3)
