"""The short names at the top: types, constants, creation, methods as functions."""

import math

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import names
from tinygrad_llm.autograd import left_out
from tinygrad_llm.errors import ConfigError, DTypeError, IndexRangeError, NumericsError, ShapeError


def test_every_short_name_is_there():
    assert set(names.ALL) <= set(dir(tg))
    for name in names.ALL:
        if name != "bfloat16":
            assert getattr(tg, name) is not None
    assert tg.float32 == np.float32 == tg.tensor([1.0]).dtype
    assert tg.zeros(2, dtype=tg.long).dtype == tg.int64
    assert (tg.inf, tg.pi) == (math.inf, math.pi)
    assert math.isnan(tg.nan)


def test_a_method_is_a_function_too():
    x = [[4.0, 1.0], [9.0, 16.0]]
    assert tg.sqrt(x).tolist() == [[2, 1], [3, 4]]
    assert tg.sum(x, dim=0).tolist() == [13, 17]
    assert tg.max(x, dim=1).indices.tolist() == [0, 1]
    assert tg.where(tg.tensor(x) > 3, x, 0.0).tolist() == [[4, 0], [9, 16]]
    assert tg.cat([x, x], dim=1).shape == (2, 4)
    assert tg.numel(x) == 4
    assert tg.is_tensor(tg.ones(1))
    assert not tg.is_tensor(x)
    assert tg.exp.__doc__ == tg.Tensor.exp.__doc__
    w = tg.tensor(x, requires_grad=True)
    tg.sqrt(w).sum().backward()
    np.testing.assert_allclose(w.grad, 0.5 / np.sqrt(x))


@pytest.mark.parametrize("name", [*names.LEFT_OUT, "outer", "flip", "logical_and"])
def test_a_name_that_is_left_out_says_what_to_write(name):
    with pytest.raises(AttributeError, match=rf"tg\.{name} is left out\. Use .+\."):
        getattr(tg, name)


def test_nothing_is_both_there_and_left_out():
    assert not set(names.LEFT_OUT) & set(dir(tg))
    assert not set(left_out.LEFT_OUT) & set(dir(tg.Tensor))


def test_a_misspelt_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match=r"Did you mean tg\.softmax\?"):
        tg.sofmax


def test_filled_tensors():
    for shape in [(2, 3), ((2, 3),), ([2, np.int64(3)],)]:
        assert tg.zeros(*shape).shape == tg.ones(*shape).shape == tg.empty(*shape).shape == (2, 3)
    assert tg.zeros(()).shape == tg.zeros().shape == ()
    assert tg.ones(2).dtype == np.float32
    assert tg.ones(2, dtype="int64", requires_grad=False).tolist() == [1, 1]
    assert tg.zeros(2, requires_grad=True).requires_grad
    for value, dtype in ((7, "int64"), (7.0, "float32"), (True, "bool")):
        x = tg.full((2,), value)
        assert x.dtype == dtype
        assert x.tolist() == [value, value]
    assert tg.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    ids = tg.tensor([[1, 2]])
    assert tg.zeros_like(ids).dtype == tg.ones_like(ids).dtype == tg.full_like(ids, 3).dtype
    assert tg.zeros_like(ids, dtype="float32").dtype == np.float32
    assert tg.empty_like(ids).shape == tg.randn_like(ids.float()).shape == (1, 2)
    for wrong in [(-1,), (2.5,), ("2",), ((2, None),)]:
        with pytest.raises(ShapeError, match="zeros: expected integers"):
            tg.zeros(*wrong)
    with pytest.raises(DTypeError):
        tg.ones(2, dtype="int64", requires_grad=True)


def test_counted_tensors():
    assert tg.arange(4).tolist() == [0, 1, 2, 3]
    assert tg.arange(4).dtype == np.int64
    assert tg.arange(5, 1, -2).tolist() == [5, 3]
    assert tg.arange(0, 1, 0.25).tolist() == [0, 0.25, 0.5, 0.75]
    assert tg.arange(3.0).dtype == tg.arange(3, dtype=tg.float32).dtype == np.float32
    assert tg.arange(tg.tensor(3)).tolist() == [0, 1, 2]
    assert tg.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    with pytest.raises(ConfigError, match="step other than 0"):
        tg.arange(0, 3, 0)


def test_drawn_tensors_come_from_the_seed():
    def draw():
        tg.manual_seed(5)
        return tg.randn(2, 3), tg.rand((2, 3)), tg.randint(0, 7, (2, 3)), tg.randperm(9)

    for a, b in zip(draw(), draw(), strict=True):
        assert a.equal(b)
    _, uniform, integers, order = draw()
    assert 0 <= uniform.min().item() < uniform.max().item() < 1
    assert sorted(order.tolist()) == list(range(9))
    assert integers.dtype == np.int64
    own = tg.Generator(1)
    assert tg.randn(3, generator=own).equal(tg.randn(3, generator=tg.Generator(1)))
    assert tg.rand(2, dtype="float16").max().item() < 1
    assert set(tg.randint(3, (200,)).tolist()) == set(tg.randint(3, size=(200,)).tolist())
    for wrong in [(5,), (5, 5, (2,)), (0, -1, (2,))]:
        with pytest.raises(ConfigError, match="randint"):
            tg.randint(*wrong)


def test_shared_and_converted():
    array = np.zeros(2)
    tg.from_numpy(array)[0] = 5.0
    assert array.tolist() == [5, 0]
    x = tg.as_tensor(array)
    assert x.data is array
    assert tg.as_tensor(x) is x
    assert tg.as_tensor([1, 2], dtype=tg.float32).dtype == np.float32


# ---- booleans, whole numbers ---------------------------------------------------------------------


def test_conditions_are_combined():
    x = tg.arange(6)
    assert ((x > 1) & (x < 4)).nonzero().tolist() == [[2], [3]]
    assert ((x < 1) | ~(x < 5) ^ (x == 9)).tolist() == [True, False, False, False, False, True]
    assert (x & 1).tolist() == (1 & x).tolist() == [0, 1, 0, 1, 0, 1]
    assert tg.all(x >= 0)
    assert not tg.any(x > 9)
    assert tg.ones(2, 3).all(dim=1).tolist() == [True, True]
    for combine in (lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a ^ b, lambda a, b: ~a):
        with pytest.raises(DTypeError, match="booleans or integers, got float32"):
            combine(tg.ones(2), tg.ones(2))
    with pytest.raises(DTypeError, match="got float"):
        tg.arange(2) & 0.5
    with pytest.raises(ShapeError, match="broadcast"):
        tg.arange(2) & tg.arange(3)


def test_division_with_a_remainder():
    a, b = tg.arange(-5, 6), tg.tensor(3)
    assert ((a // b) * b + a % b).equal(a)
    assert (a % b).min().item() == 0
    assert (7 // tg.tensor([2, 3])).tolist() == [3, 2]
    assert (7 % tg.tensor([4.0, 2.5])).tolist() == [3, 2]
    x = tg.tensor([2.5], requires_grad=True)
    with pytest.raises(tg.errors.GraphError, match="floor_divide.*detach"):
        (x // 2.0).sum().backward()


def test_comparison_of_all_elements():
    x = tg.tensor([1.0, tg.nan])
    assert not x.equal(x)
    assert x.allclose(x, equal_nan=True)
    assert not x.allclose(x)
    assert tg.allclose(tg.ones(2), tg.ones(2) + 1e-7)
    assert not tg.ones(2).equal(tg.ones(3))
    assert x.isnan().tolist() == [False, True]
    assert tg.isfinite([1.0, tg.inf]).tolist() == [True, False]
    assert tg.round([0.5, 1.5, -0.6]).tolist() == [0, 2, -1]


# ---- order and draws -----------------------------------------------------------------------------


def test_order_keeps_equal_elements_in_place():
    x = tg.tensor([[2, 1, 2, 1]])
    assert x.argsort().tolist() == [[1, 3, 0, 2]]
    assert x.argsort(descending=True).tolist() == [[0, 2, 1, 3]]
    assert tg.sort(x, descending=True).values.tolist() == [[2, 2, 1, 1]]
    values, indices = tg.topk(tg.tensor([1.0, 5.0, 3.0, 5.0]), 3)
    assert (values.tolist(), indices.tolist()) == ([5, 5, 3], [1, 3, 2])
    assert tg.topk([1.0, 5.0, 3.0], 2, largest=False).indices.tolist() == [0, 2]
    assert tg.tensor(3.0).sort().values.item() == 3
    with pytest.raises(ShapeError, match="k must be 0 .. 3"):
        tg.topk([1.0, 2.0, 3.0], 4)


def test_multinomial_draws_as_often_as_the_weights_say():
    tg.manual_seed(0)
    weights = tg.tensor([[1.0, 0.0, 3.0], [2.0, 2.0, 0.0]])
    drawn = tg.multinomial(weights, 4000, replacement=True)
    assert drawn.shape == (2, 4000)
    assert drawn.dtype == np.int64
    shares = [np.bincount(row, minlength=3) / 4000 for row in drawn.numpy()]
    np.testing.assert_allclose(shares, [[0.25, 0, 0.75], [0.5, 0.5, 0]], atol=0.03)
    first = np.array([tg.multinomial(weights[0], 1).item() for _ in range(1000)])
    assert 1 not in first
    assert abs((first == 2).mean() - 0.75) < 0.05
    assert sorted(weights[0].multinomial(2).tolist()) == [0, 2]
    for wrong in ([1.0, -1.0], [tg.nan, 1.0], [tg.inf, 1.0], [0.0, 0.0]):
        with pytest.raises(NumericsError, match="multinomial"):
            tg.multinomial(wrong, 1)
    with pytest.raises(ConfigError, match="replacement=True"):
        tg.multinomial([1.0, 0.0], 2)
    with pytest.raises(ShapeError):
        tg.multinomial(tg.ones(1, 1, 1), 1)


# ---- by index, and named axes --------------------------------------------------------------------


def test_gather_and_scatter_agree_with_numpy():
    rng = np.random.default_rng(0)
    x, index = rng.normal(size=(3, 4)), rng.integers(0, 4, (3, 2))
    found = tg.gather(x, 1, tg.tensor(index))
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(x, index, 1))
    one = np.array([[2], [0], [3]])
    put = x.copy()
    np.put_along_axis(put, one, -1.0, 1)
    np.testing.assert_array_equal(tg.scatter(x, 1, one, -1.0).numpy(), put)
    counts = tg.zeros(5).scatter_add(0, tg.tensor([1, 1, 4]), tg.ones(3))
    assert counts.tolist() == [0, 2, 0, 0, 1]
    for wrong, error, message in [
        ([[4]], IndexRangeError, "index 4.*0 .. 3"),
        ([[-1]], IndexRangeError, "index -1"),
        ([0], ShapeError, "axes"),
        ([[0]] * 4, ShapeError, "no longer"),
        ([[0.5]], DTypeError, "int"),
    ]:
        with pytest.raises(error, match=message):
            tg.gather(x, 1, wrong)
    with pytest.raises(ShapeError, match="index's shape"):
        tg.scatter(x, 1, one, tg.ones(3, 2))


@pytest.mark.parametrize(
    "equation",
    [
        "ij,jk->ik",
        "ij,jk",
        "ij,kj->",
        "ij->ji",
        "ij,ij->i",
        "bij,bjk->bik",
        "...ij->...ji",
        "...i,...i->...",
        "b...,b...->...",
        "i,j->ij",
        "ij,jk,kl->il",
        "ijk->",
    ],
)
def test_einsum_agrees_with_numpy(equation):
    lengths = dict(zip("bijkl", range(2, 7), strict=True))
    rng = np.random.default_rng(0)
    shapes = [
        [n for c in term.replace("...", "l") for n in [lengths[c]]]
        for term in equation.partition("->")[0].split(",")
    ]
    xs = [rng.normal(size=shape) for shape in shapes]
    np.testing.assert_allclose(tg.einsum(equation, *xs).numpy(), np.einsum(equation, *xs))
    tg.gradcheck(lambda *ts: tg.einsum(equation, *ts), xs)


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ij->i", "names 1 operands, got 2"),
        ("ii,jk->i", "twice"),
        ("ij,jk->iz", "no operand"),
        ("i,jk->i", "one letter for each axis"),
        ("ij,kj->ik", "axes of lengths 3 and 4"),
    ],
)
def test_einsum_says_what_does_not_fit(equation, message):
    with pytest.raises(ShapeError, match=message):
        tg.einsum(equation, tg.ones(2, 3), tg.ones(3, 4))


def test_lengths_and_products():
    x = tg.zeros(3, requires_grad=True)
    x.norm().backward()
    assert x.grad.tolist() == [0, 0, 0]  # no direction, no slope
    assert tg.norm([[3.0, 4.0]], dim=1).tolist() == [5]
    assert tg.norm([[3.0, 4.0]], 2).item() == 5  # PyTorch's order: the power comes first
    with pytest.raises(ConfigError, match="only p=2"):
        tg.norm([3.0, 4.0], p=1)
    assert tg.prod(tg.arange(1, 5)).item() == 24
    assert tg.cumsum(tg.arange(4), dim=0).tolist() == [0, 1, 3, 6]
    assert tg.logsumexp(tg.tensor([1000.0, 1000.0]), dim=0).item() == pytest.approx(1000.6931)
    assert tg.logsumexp(tg.full((2,), -tg.inf), dim=0).item() == -tg.inf
    halves = tg.ones(4096, dtype="float16")
    assert halves.cumsum(0)[-1].item() == 4096
    assert halves.norm().item() == 64
