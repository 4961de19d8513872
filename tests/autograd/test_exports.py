"""How values leave a Tensor: NumPy, Python numbers, DLPack, and what it prints."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import GraphError, ShapeError


def test_values_share_memory_with_numpy_and_dlpack():
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.numpy() is x.data
    for view in (np.asarray(x), np.from_dlpack(x)):
        np.testing.assert_array_equal(view, [[1, 2], [3, 4]])
    assert np.shares_memory(np.from_dlpack(x), x.data)
    assert np.asarray(x, dtype="float64").dtype == np.float64
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_one_element_is_a_number():
    x = tg.tensor([2.5])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    with pytest.raises(ShapeError, match=r"one element, got shape \(2,\)"):
        tg.tensor([1.0, 2.0]).item()


def test_on_the_cpu_there_is_no_cuda_interface():
    assert not hasattr(tg.tensor([1.0]), "__cuda_array_interface__")


def test_what_is_printed():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "tensor([1. 2.], dtype=float32, requires_grad=True)"
    assert repr(x * 2) == "tensor([2. 4.], dtype=float32, made by multiply)"


TAKES_THE_VALUES = {
    "concatenate": lambda x: np.concatenate([x, x]),
    "stack": lambda x: np.stack([x, x]),
    "where": lambda x: np.where(x.numpy() > 0, x, 0),
    "tril": lambda x: np.tril(x),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "linalg.norm": lambda x: np.linalg.norm(x),
    "asarray": lambda x: np.asarray(x),
    "array of two": lambda x: np.array([x, x]),
    "array of numbers": lambda x: np.array([x[0, 0], x[0, 1]]),
    "tensor of two": lambda x: tg.tensor([x, x]),
    "tensor of numbers": lambda x: tg.tensor([x[0, 0], x[0, 1]]),
    "from_dlpack": lambda x: np.from_dlpack(x),
    "assignment": lambda x: np.zeros((2, 2)).__setitem__(0, x[0]),
    "product": lambda x: np.dot(np.ones((2, 2)), x),
}


@pytest.mark.parametrize("take", TAKES_THE_VALUES)
def test_a_library_that_would_lose_a_gradient_is_refused(take):
    x = tg.Tensor(np.ones((2, 2)), requires_grad=True)
    for t in (x, x * 2.0):
        with pytest.raises(GraphError, match=r"requires a gradient.*tg\.functional.*detach"):
            TAKES_THE_VALUES[take](t)
        with tg.no_grad():
            TAKES_THE_VALUES[take](t)
        TAKES_THE_VALUES[take](t.detach())


def test_what_carries_no_gradient_may_be_asked():
    x = tg.Tensor(np.ones((2, 2)), requires_grad=True)
    assert np.shape(x) == (2, 2)
    assert np.ndim(x) == 2
    assert np.array_equal((x > 0), x.numpy() > 0)
    assert float(x.sum()) == 4
    assert x.tolist() == [[1, 1], [1, 1]]
    assert not hasattr(x, "__cuda_array_interface__")
