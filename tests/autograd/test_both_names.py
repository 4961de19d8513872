"""axis= and dim=, keepdims= and keepdim=: every function that has the one takes the other."""

import inspect

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import functional, names
from tinygrad_llm.errors import ConfigError, ShapeError

INDEX = np.array([[1, 0, 1, 0]] * 2)
# Arguments beside the axis; a function that is missing here is called without.
OTHERS = {
    "chunk": {"chunks": 2},
    "gather": {"index": INDEX},
    "index_select": {"index": [1, 0]},
    "repeat_interleave": {"repeats": 2},
    "scatter": {"index": INDEX, "src": 0.5},
    "scatter_add": {"index": INDEX, "src": 0.5},
    "topk": {"k": 1},
    "unflatten": {"sizes": (2, 2)},
}
TWO_MEANINGS = {"max", "min", "split"}  # axis= and dim= say which one
AXIS_OF_LENGTH_1 = {"squeeze"}


def with_an_axis(owner):
    """name -> function of those that have a parameter ``axis``."""
    found = {}
    for name, member in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_") and "axis" in inspect.signature(member).parameters:
            found[name] = member
    return {n: f for n, f in found.items() if n not in TWO_MEANINGS}


METHODS, FUNCTIONS = with_an_axis(tg.Tensor), with_an_axis(functional)
CALLS = [
    *[pytest.param(n, f, id=f"Tensor.{n}") for n, f in METHODS.items()],
    *[pytest.param(n, f, id=f"functional.{n}") for n, f in FUNCTIONS.items()],
    *[pytest.param(n, getattr(tg, n), id=f"tg.{n}") for n in names.ALL if n in METHODS],
    *[pytest.param("concatenate", getattr(tg, n), id=f"tg.{n}") for n in ("cat", "concat")],
]


def call(name, function, **axis):
    x = tg.tensor(np.arange(8.0).reshape((2, 1, 4) if name in AXIS_OF_LENGTH_1 else (2, 4)) + 1)
    first = [x, x * 2.0] if name in ("concatenate", "stack") else x
    return parts(function(first, **OTHERS.get(name, {}), **axis))


def parts(result):
    return list(result) if isinstance(result, tuple) else [result]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_there_are_many():
    assert len(METHODS) >= 25
    assert len(FUNCTIONS) >= 4


@pytest.mark.parametrize(("name", "function"), CALLS)
def test_dim_is_axis(name, function):
    expected = call(name, function, axis=1)
    assert_same(call(name, function, dim=1), expected)
    assert_same(call(name, function, axis=np.int64(1)), expected)
    assert_same(
        call(name, function, dim=np.int32(-1 if name not in AXIS_OF_LENGTH_1 else 1)),
        call(name, function, axis=-1 if name not in AXIS_OF_LENGTH_1 else 1),
    )
    with pytest.raises(ConfigError, match="dim= is another name of axis="):
        call(name, function, axis=1, dim=1)
    for wrong in (7, -8, 1.5, "x"):
        with pytest.raises(ShapeError):
            call(name, function, dim=wrong)


@pytest.mark.parametrize(
    "name", [n for n, f in METHODS.items() if "keepdims" in inspect.signature(f).parameters]
)
def test_keepdim_is_keepdims(name):
    for function in (METHODS[name], getattr(tg, name)):
        expected = call(name, function, axis=1, keepdims=True)
        assert expected[0].shape == (2, 1)
        assert_same(call(name, function, dim=1, keepdim=True), expected)


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_give_values_by_axis_and_pairs_by_dim(name):
    x = tg.tensor([[3.0, 1.0, 3.0], [4.0, 9.0, 5.0]], requires_grad=True)
    extreme = getattr(x, name)
    values = extreme(axis=1)
    found = extreme(dim=1, keepdim=True)
    assert found.values.shape == found.indices.shape == (2, 1)
    assert found.values.reshape(-1).tolist() == values.tolist()
    assert extreme(dim=-1).indices.tolist() == getattr(x, f"arg{name}")(axis=1).tolist()
    found.values.sum().backward()
    assert x.grad.sum() == 2  # to the named index alone, though there is a tie
    assert set(x.grad.reshape(-1).tolist()) == {0.0, 1.0}
    for other in (1, tg.ones(3)):
        with pytest.raises(ConfigError, match=rf"tg.{name}imum\(a, b\)"):
            extreme(other)


def test_split_by_number_with_axis_and_by_length_with_dim():
    x = tg.tensor(np.arange(12.0).reshape(2, 6), requires_grad=True)
    assert [p.shape for p in x.split(2, axis=1)] == [(2, 3)] * 2
    assert [p.shape for p in x.split(2, dim=1)] == [(2, 2)] * 3
    assert [p.shape for p in x.split(4, dim=-1)] == [(2, 4), (2, 2)]
    assert [p.shape for p in tg.split(x, [1, 5], dim=1)] == [(2, 1), (2, 5)]
    with pytest.raises(ConfigError, match="equal parts.*parts of one length"):
        x.split(3)
    with pytest.raises(ShapeError, match="add up to 5"):
        x.split([2, 3], dim=1)
    with pytest.raises(ShapeError, match="length 1 or more"):
        x.split(0, dim=1)
    (x.split(4, dim=1)[1] * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad, [[0, 0, 0, 0, 3, 3]] * 2)
