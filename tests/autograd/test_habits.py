"""What is written as for PyTorch or NumPy does what is meant, or says what to write."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import DTypeError, GraphError, ShapeError

# ---- requires_grad -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switch", [lambda x, on: setattr(x, "requires_grad", on), lambda x, on: x.requires_grad_(on)]
)
def test_requires_grad_is_checked_however_it_is_set(switch):
    for values in ([1, 2], [True, False]):
        x = tg.tensor(values)
        with pytest.raises(DTypeError, match="floating-point"):
            switch(x, True)
        switch(x, False)
    leaf = tg.tensor([1.0])
    switch(leaf, True)
    result = leaf * 2
    with pytest.raises(GraphError, match=r"\.detach\(\)"):
        switch(result, False)
    switch(result, True)  # it does already
    switch(leaf, False)
    assert not (leaf * 2).requires_grad


# ---- printing ------------------------------------------------------------------------------------


def test_a_loss_is_formatted_as_a_number():
    loss = tg.tensor(1.23456, requires_grad=True)
    assert f"{loss:.4f} {loss * 2:8.2f}" == "1.2346     2.47"
    assert f"{tg.tensor(3):05d} {tg.tensor([2.5]):.1e}" == "00003 2.5e+00"
    assert f"{loss}" == str(loss.item())
    x = tg.tensor([1.0, 2.0])
    assert f"{x}" == str(x)
    with pytest.raises(ShapeError, match=r"one number.*\(2,\)"):
        f"{x:.2f}"


# ---- types ---------------------------------------------------------------------------------------


def test_conversions_by_name():
    x = tg.tensor([1.7, -2.2, 0.0], requires_grad=True)
    kinds = {
        "float": "float32",
        "double": "float64",
        "half": "float16",
        "long": "int64",
        "int": "int32",
        "bool": "bool",
    }
    for name, dtype in kinds.items():
        assert getattr(x, name)().dtype == dtype == getattr(tg, name)
    assert x.long().tolist() == [1, -2, 0]
    assert x.bool().tolist() == [True, True, False]
    assert x.float() is x
    assert x.type_as(tg.zeros(1, dtype=tg.float64)).dtype == tg.float64
    assert x.cpu() is x
    (x.half().float() * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_a_tensor_moves_to_a_device_a_type_or_both():
    x = tg.tensor([1.0], requires_grad=True)
    for y in (
        x.to("cpu", tg.float64),
        x.to(device="cpu", dtype="float64", non_blocking=True),
        x.to(tg.zeros(1, dtype=tg.float64)),
        x.to(tg.float64),
    ):
        assert (y.dtype, y.device) == (tg.float64, "cpu")
        assert y.requires_grad
    assert x.to("cpu") is x
    with pytest.raises(tg.errors.ConfigError, match="a device, a dtype, or both"):
        x.to()
    for other in ("gpu", "mps", "xpu:0"):
        with pytest.raises(tg.errors.DeviceError, match='"cuda:N", got'):
            x.to(other)
    with pytest.raises(DTypeError):
        x.to("float128")


def test_an_integer_is_an_index_of_python():
    assert [10, 20, 30][tg.tensor(1)] == 20
    assert list(range(tg.tensor([3]))) == [0, 1, 2]
    for x in (tg.tensor(1.0), tg.tensor(True)):
        with pytest.raises(DTypeError, match="integer"):
            [10, 20][x]


# ---- what is left out ----------------------------------------------------------------------------


def test_names_that_are_left_out_say_what_to_write():
    x = tg.tensor([1.0])
    with pytest.raises(AttributeError, match=r"Tensor.unsqueeze_ is left out. Use x = x.unsq"):
        x.unsqueeze_
    with pytest.raises(AttributeError, match=r"no attribute 'softmx'. Did you mean.*softmax\?"):
        x.softmx
    assert not hasattr(x, "__array_interface__")
    assert not hasattr(x, "detach_")


# ---- terms with a sign or a factor ---------------------------------------------------------------


def test_a_plus_sign_changes_nothing():
    x = tg.tensor([1.0], requires_grad=True)
    assert +x is x


@pytest.mark.parametrize("other", [2.0, np.float32([2, 1]), tg.tensor([2.0, 1.0])])
def test_a_term_may_have_a_factor(other):
    x, term = tg.tensor([1.0, 5.0]), np.asarray(other)
    for alpha in (1, 2, -0.5):
        for result, expected in [
            (x.add(other, alpha=alpha), x.numpy() + alpha * term),
            (x.sub(other, alpha=alpha), x.numpy() - alpha * term),
            (x.clone().add_(other, alpha=alpha), x.numpy() + alpha * term),
            (x.clone().sub_(other, alpha=alpha), x.numpy() - alpha * term),
            (tg.add(x, other, alpha=alpha), x.numpy() + alpha * term),
        ]:
            assert result.dtype == np.float32
            np.testing.assert_array_equal(result.numpy(), expected)


def test_the_factor_of_a_term_is_a_factor_of_its_gradient():
    x, y = (tg.tensor([1.0, 5.0], requires_grad=True) for _ in "12")
    x.add(y, alpha=3).sub_(y, alpha=0.5).sum().backward()
    assert x.grad.tolist() == [1, 1]
    assert y.grad.tolist() == [2.5, 2.5]
    with pytest.raises(DTypeError, match="int64"):
        tg.tensor([1]).add_(1, alpha=0.5)
