"""Writing into a tensor: recorded where a gradient depends on it, refused where it cannot be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.errors import DTypeError, GraphError, IndexRangeError, ShapeError


def leaf(*shape, seed=0):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def test_a_value_that_requires_a_gradient_gets_it():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    buf = tg.tensor(np.zeros(2, np.float32))
    buf[0] = w[0] * 3
    buf[1] = w[1]
    assert buf.requires_grad
    assert not buf.is_leaf
    (buf * w).sum().backward()  # 3 w0^2 + w1^2
    np.testing.assert_array_equal(w.grad, [6, 4])


def test_an_overwritten_result_gets_no_gradient_where_it_was_overwritten():
    x = leaf(3)
    y = x * 2.0
    y[1] = 5.0
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad, 8 * x.data * [1, 0, 1])


def test_what_used_the_old_values_keeps_them_and_its_gradient():
    x = leaf(3)
    y = x.exp()  # saves its result
    old = y * 1.0
    y[0] = x[2]
    (old.sum() + y.sum()).backward()
    e = np.exp(x.data)
    np.testing.assert_allclose(x.grad, [e[0], 2 * e[1], 2 * e[2] + 1])


INDICES = st.sampled_from(
    [
        0,
        -1,
        slice(1, None),
        (slice(None), 2),
        (..., None, 1),
        np.array([0, 2]),
        np.array([1, 1, 0]),
        (np.array([0, 2, 0]), np.array([3, 1, 3])),
        [2, 0],
        np.arange(12).reshape(3, 4) % 3 == 0,
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(st.tuples(INDICES, st.booleans()), min_size=1, max_size=4), fresh=st.booleans()
)
def test_any_sequence_of_writes_has_the_gradient_of_finite_differences(writes, fresh):
    def f(x, w):
        y = tg.Tensor(np.ones((3, 4))) if fresh else x * 2.0
        for index, whole in writes:
            part = w[index]
            y[index] = part * y[index] if whole else part.reshape(-1)[0] * 3.0
        return y

    rng = np.random.default_rng(0)
    tg.gradcheck(f, [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))])


def test_of_several_values_for_one_place_the_last_gets_the_gradient():
    w = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = tg.tensor([0.0, 0.0])
    y[[1, 0, 1]] = w
    assert y.tolist() == [2.0, 3.0]
    (y * tg.tensor([10.0, 20.0])).sum().backward()
    assert w.grad.tolist() == [0.0, 10.0, 20.0]


def test_a_value_of_another_type_gets_a_gradient_of_its_own_type():
    w = tg.tensor(np.ones(2), requires_grad=True)  # float64
    y = tg.tensor(np.zeros((3, 2), np.float32))
    y[...] = w
    y.sum().backward()
    assert w.grad.dtype == np.float64
    assert w.grad.tolist() == [3.0, 3.0]


def test_copy_is_recorded_too():
    w = leaf(3)
    y = tg.tensor(np.zeros((2, 3)))
    y.copy_(w)
    (y * y).sum().backward()
    np.testing.assert_allclose(w.grad, 4 * w.data)


def test_a_leaf_that_requires_a_gradient_is_written_under_no_grad_only():
    x = leaf(3)
    for value in (1.0, leaf()):
        with pytest.raises(GraphError, match="leaf that requires a gradient.*no_grad"):
            x[0] = value
    with tg.no_grad():
        x[0] = leaf()
        x[1] = 7.0
    assert x.is_leaf
    assert x.data[1] == 7


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[0],
        lambda t: t.reshape(-1),
        lambda t: t.T,
        lambda t: t[:, 1:],
        lambda t: t.detach()[1],
    ],
    ids=["row", "reshape", "transpose", "columns", "detach"],
)
def test_a_recorded_write_into_a_view_is_refused(view):
    buf = tg.Tensor(np.zeros((2, 3)))
    part = view(buf)
    with pytest.raises(GraphError, match=r"shares the memory.*x\[i, j\]"):
        part[1] = leaf()
    part[1] = 5.0  # without a gradient it reaches the whole
    assert (buf.data == 5).any()


def test_a_result_that_is_nobody_elses_may_be_written_though_it_is_a_view_inside():
    x, w = leaf(2, 3, 4), leaf(5, 4, seed=1)
    y = tg.functional.linear(x, w)  # reshaped rows
    y[0, 0] = 0.0
    y.sum().backward()
    assert np.isfinite(w.grad).all()
    assert (x.grad[0, 0] == 0).all()


def test_an_integer_tensor_takes_the_values_without_their_gradient_as_a_cast_does():
    ids, w = tg.tensor([0, 0]), leaf()
    ids[0] = w * 0 + 3.7
    assert ids.tolist() == [3, 0]
    assert not ids.requires_grad


def test_writes_that_do_not_fit_are_told():
    for y in (tg.tensor([[1.0, 2.0]]), leaf(1, 2) * 1.0):
        with pytest.raises(ShapeError, match=r"value of shape \(3,\) does not fit.*\(2,\)"):
            y[0] = [1.0, 2.0, 3.0]
        with pytest.raises(IndexRangeError, match=r"shape \(1, 2\)"):
            y[5] = 1.0


@pytest.mark.parametrize("fresh", [True, False])
def test_axes_of_length_1_in_front_of_a_value_are_no_matter(fresh):
    y = leaf(2, 3) * (0.0 if fresh else 1.0)
    w = leaf(1, 1, 3)
    y[0] = w
    y[y > 100] = leaf(1, 1)
    y[1, 2] = leaf(1)
    y.sum().backward()
    assert y.data[0].tolist() == w.data[0, 0].tolist()
    assert w.grad.tolist() == [[[1, 1, 1]]]


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda x: x.__setitem__(x > 0, np.ones((3, 2))), ShapeError, r"\(3, 2\) does not fit"),
        (lambda x: x.__setitem__(0, None), DTypeError, "object"),
        (lambda x: x.__setitem__(0, "1.5"), DTypeError, "U3"),
        (lambda x: x.__setitem__(0, 1j), DTypeError, "complex"),
        (lambda x: x.__setitem__(0, [1.0, None]), DTypeError, "object"),
        (lambda x: x.astype("uint8").__setitem__(0, 300), DTypeError, "300 is no uint8"),
        (lambda x: x.copy_("a"), DTypeError, "U1"),
        (lambda x: x.masked_fill_(x > 0, None), DTypeError, "one number, got NoneType"),
        (lambda x: x.masked_fill(x > 0, x), DTypeError, r"a tensor of shape \(1, 2\)"),
        (lambda x: x.clamp_(max="a"), DTypeError, "one number, got str"),
    ],
)
def test_only_numbers_that_fit_are_written(write, error, message):
    x = tg.tensor([[1.0, 2.0]])
    with pytest.raises(error, match=message):
        write(x)
    assert x.tolist() == [[1, 2]]


def test_nothing_is_recorded_where_nothing_requires_a_gradient():
    y = tg.tensor([1.0, 2.0])
    memory = y.data
    y[0] = tg.tensor(5.0)
    assert y.data is memory
    assert y.is_leaf
    assert not y.requires_grad


def test_results_of_integer_type_require_no_gradient():
    x = tg.tensor([1.5, 2.5], requires_grad=True)
    for dtype in ("int64", "uint8", "bool"):
        assert not x.astype(dtype).requires_grad
    (x.astype("int64") * x).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0]

    class Rounded(tg.Function):
        def forward(ctx, x):
            return x, np.rint(x).astype(np.int64), x > 0

        def backward(ctx, dx, d_rounded, d_positive):
            assert d_rounded is d_positive is None
            return dx

    same, rounded, positive = Rounded.apply(x)
    assert [t.requires_grad for t in (same, rounded, positive)] == [True, False, False]
    (same * rounded).sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]
