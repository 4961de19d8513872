"""Arrays whose class derives from NumPy's: their memory is used, or they are refused."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import functional as F
from tinygrad_llm.errors import DeviceError, DTypeError, GraphError

X = tg.Tensor(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
MASKED = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[0, 1], [0, 0]])
MASKED_IDS = np.ma.array([[0, 1]], mask=[[0, 1]])


@pytest.fixture
def mapped(tmp_path):
    np.arange(6, dtype=np.float32).tofile(tmp_path / "numbers")
    return np.memmap(tmp_path / "numbers", np.float32, "r", shape=(2, 3))


def test_a_memory_map_is_a_tensor_of_the_same_memory(mapped):
    x = tg.Tensor(mapped)
    assert type(x.data) is np.ndarray
    assert np.shares_memory(x.data, mapped)
    with pytest.raises(GraphError, match="read-only. Write into a copy"):
        x[0] = 1.0
    for part in (mapped, mapped[1:]):
        assert not np.shares_memory(tg.tensor(part).data, part)


def test_a_memory_map_is_computed_with(mapped):
    plain = np.array(mapped)
    w = tg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    for product in (tg.Tensor(mapped) * w, w * mapped, mapped * w):
        assert type(product.data) is np.ndarray
        np.testing.assert_array_equal(product.numpy(), plain)
    (w * mapped).sum().backward()
    np.testing.assert_array_equal(w.grad, plain)
    assert tg.nn.Linear(3, 2)(mapped).shape == (2, 2)
    assert type((w < mapped).data) is np.ndarray


def test_ids_and_indices_may_be_memory_maps(tmp_path):
    np.array([[1, 0], [1, 1]]).tofile(tmp_path / "ids")
    ids = np.memmap(tmp_path / "ids", np.int64, "r", shape=(2, 2))
    np.testing.assert_array_equal(F.embedding(ids, X).numpy(), X.numpy()[np.array(ids)])
    np.testing.assert_array_equal(X[ids].numpy(), X.numpy()[np.array(ids)])
    model = tg.nn.GPT(tg.nn.GPTConfig(5, 4, n_layer=1, n_head=1, n_embd=2))
    assert model(ids).shape == (2, 2, 5)
    assert tg.generate(model, ids, 1).shape == (2, 3)


WAYS_IN = {
    "tensor": lambda x: tg.tensor(x),
    "Tensor": lambda x: tg.Tensor(x),
    "right operand": lambda x: X * x,
    "left operand": lambda x: x * X,
    "right factor": lambda x: X @ x,
    "comparison": lambda x: X < x,
    "function": lambda x: F.softmax(x),
    "layer": lambda x: tg.nn.Linear(2, 2)(x),
    "choice": lambda x: F.where(X > 1, X, x),
    "condition": lambda x: F.where(x > 1, X, 0.0),
    "mask": lambda x: X.masked_fill(x > 1, 0.0),
    "attention mask": lambda x: F.scaled_dot_product_attention(X, X, X, mask=x),
    "index": lambda x: X[x > 1],
    "assignment": lambda x: X.clone().copy_(x),
    "gradient": lambda x: tg.tensor(np.ones((2, 2)), requires_grad=True).backward(x),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
def test_masked_arrays_and_matrices_are_refused_at_every_entrance(way):
    with pytest.raises(DTypeError, match=r"masked array .* Pass x.filled\(0\)"):
        way(MASKED)
    with pytest.raises(DTypeError, match=r"np.matrix .* Pass np.asarray\(x\)"):
        way(np.asmatrix(MASKED.data))


@pytest.mark.parametrize(
    "way",
    [
        lambda ids: F.embedding(ids, X),
        lambda ids: F.cross_entropy(X, ids[0]),
        lambda ids: tg.nn.GPT(tg.nn.GPTConfig(5, 4, n_layer=1, n_head=1, n_embd=2))(ids),
        lambda ids: tg.generate(tg.nn.GPT(tg.nn.GPTConfig(5, 4, 1, 1, 2)), ids, 1),
    ],
)
def test_masked_ids_are_refused(way):
    with pytest.raises(DTypeError, match="masked array"):
        way(MASKED_IDS)


def test_another_class_put_into_data_is_not_called_another_device(mapped):
    x = tg.tensor(np.ones((2, 3), np.float32))
    x.data = mapped
    with pytest.raises(DeviceError, match="arrays of one class, got memmap and ndarray"):
        x * tg.tensor(np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    "array",
    [
        np.array(["2020"], "datetime64[s]"),
        np.array([1], "timedelta64[s]"),
        np.zeros(1, [("a", "i4")]),
        np.array([1j]),
        np.array([1], np.longdouble),
        np.array(["a"]),
        np.array([None]),
    ],
    ids=lambda x: x.dtype.name,
)
def test_types_that_ops_do_not_compute_with_are_refused(array):
    if array.dtype == np.float64:
        pytest.skip("the long double of this machine is a double")
    with pytest.raises(DTypeError, match="expected one of float16, bfloat16"):
        tg.tensor(array)
    with pytest.raises(DTypeError, match="expected one of float16, bfloat16"):
        X.astype(array.dtype)


def test_the_other_byte_order_is_turned_around():
    for array in (np.array([1.5, -2.0], ">f4"), np.array([3, 4], ">i8")):
        x = tg.Tensor(array)
        assert x.data.dtype.isnative
        np.testing.assert_array_equal(x.numpy(), array)
    assert X.astype(">f8").dtype.isnative
    x = tg.Tensor(np.array([1.5], ">f4"), requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.dtype.isnative
