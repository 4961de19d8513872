"""How values leave a Tensor: NumPy, Python numbers, DLPack, and what it prints."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import ShapeError


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
