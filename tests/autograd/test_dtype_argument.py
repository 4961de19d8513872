"""dtype=: the tensor is cast first, and its gradient comes back in the type that it had."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import functional
from tinygrad_llm.errors import ConfigError, DTypeError

ROW_WISE = ("cumsum", "softmax", "log_softmax")
METHODS = {n: getattr(tg.Tensor, n) for n in ("sum", "mean", "prod", *ROW_WISE)}
CALLS = {
    **{f"Tensor.{n}": f for n, f in METHODS.items()},
    **{f"tg.{n}": getattr(tg, n) for n in METHODS},
    **{f"functional.{n}": getattr(functional, n) for n in ("softmax", "log_softmax")},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", [tg.float64, "float32", np.float16])
def test_it_is_the_cast_before_the_function(call, dtype):
    rng = np.random.default_rng(0)
    values = rng.uniform(0.5, 1.5, (2, 3))
    x, y = (tg.tensor(values, dtype="float32", requires_grad=True) for _ in "12")
    found, expected = CALLS[call](x, dim=1, dtype=dtype), CALLS[call](y.astype(dtype), axis=1)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    weights = rng.normal(size=found.shape).astype(dtype)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, y.grad)


def test_a_sum_in_a_wider_type_does_not_overflow():
    x = tg.tensor([60000.0, 60000.0], dtype="float16", requires_grad=True)
    total = x.sum(dtype=tg.float32)
    assert total.item() == 2 * np.float16(60000.0).astype(np.float32)
    total.backward()
    assert x.grad.dtype == np.float16
    assert x.grad.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum"])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float32"])
def test_the_result_is_of_the_type_asked_for(name, dtype):
    x = tg.tensor([3, 1, 2])
    assert METHODS[name](x, axis=0, dtype=dtype).dtype == dtype
    assert METHODS[name](x, axis=0, dtype=None).dtype == np.int64
    assert getattr(tg, name)([3, 1, 2], axis=0, dtype=dtype).dtype == dtype


def test_means_and_probabilities_of_integers_need_a_floating_point_type():
    assert tg.tensor([1, 2]).mean(dtype=tg.float64).item() == 1.5
    np.testing.assert_allclose(functional.softmax([0, 0], dtype="float64").numpy(), [0.5, 0.5])
    for name in ("mean", "softmax", "log_softmax"):
        with pytest.raises(DTypeError, match=f"^{name}: .*floating-point"):
            METHODS[name](tg.tensor([1.0, 2.0]), dtype=tg.int64)


def test_misuse_is_refused():
    x = tg.ones(2, 3)
    with pytest.raises(DTypeError, match="expected one of float16"):
        x.sum(dtype="complex64")
    with pytest.raises(ConfigError, match="dim= is another name of axis="):
        x.sum(axis=0, dim=0, dtype="float64")
    with pytest.raises(TypeError, match="axes"):
        x.sum(axes=0, dtype="float64")
    with pytest.raises(TypeError, match="dtype"):
        x.logsumexp(axis=0, dtype="float64")
