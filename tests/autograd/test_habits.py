"""What is written as for PyTorch or NumPy does what is meant, or says what to write."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import DTypeError, GraphError, ShapeError


def counted(*shape, grad=False):
    return tg.tensor(np.arange(float(np.prod(shape))).reshape(shape), requires_grad=grad)


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


# ---- axes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (-1, -2), (-2, -1), (np.int64(0), 1)])
def test_two_axes_of_a_matrix_are_exchanged(axes):
    x = counted(2, 3)
    np.testing.assert_array_equal(x.transpose(*axes).numpy(), x.numpy().T)
    np.testing.assert_array_equal(tg.transpose(x, *axes).numpy(), x.numpy().T)


def test_more_axes_are_exchanged_or_permuted():
    x = counted(2, 3, 4)
    assert x.transpose(1, 2).shape == (2, 4, 3)
    assert x.transpose(0, -1).shape == (4, 3, 2)
    assert x.transpose(2, 0, 1).shape == x.permute(2, 0, 1).shape == x.permute((2, 0, 1)).shape
    assert x.transpose().shape == x.T.shape == (4, 3, 2)
    assert x.mT.shape == (2, 4, 3)
    assert x.transpose((0, 1, 2)).shape == (2, 3, 4)
    for wrong in ((0, 3), (0, 0, 1), (0, 1, 2, 3), ((0, 1),)):
        with pytest.raises(ShapeError):
            x.transpose(*wrong)
    with pytest.raises(ShapeError, match="at most two"):
        x.t()
    np.testing.assert_array_equal(x[0].t().numpy(), x.numpy()[0].T)


def test_axes_that_do_not_exist_are_refused():
    x = counted(2, 1, 3)
    for axis in (4, -5):
        with pytest.raises(ShapeError, match="does not exist"):
            x.unsqueeze(axis)
    for axis in (3, -4):
        with pytest.raises(ShapeError, match="does not exist"):
            x.squeeze(axis)
    with pytest.raises(ShapeError, match="has not length 1"):
        x.squeeze(0)
    assert x.unsqueeze(3).shape == x.unsqueeze(-1).shape == (2, 1, 3, 1)
    assert x.unsqueeze(-4).shape == (1, 2, 1, 3)
    assert x.squeeze().shape == x.squeeze(-2).shape == (2, 3)
    assert tg.tensor([[1.0]]).squeeze().shape == ()


# ---- shapes --------------------------------------------------------------------------------------


def test_size_is_numpys_number_and_pytorchs_shape():
    x = counted(2, 3, 4)
    assert x.size == 24
    assert x.size() == x.shape == (2, 3, 4)
    assert (x.size(0), x.size(-1)) == (2, 4)
    assert (x.numel(), x.dim(), x.nbytes, x.element_size()) == (24, 3, 192, 8)
    b, t, c = x.size()
    assert (b, t, c) == (2, 3, 4)
    with pytest.raises(ShapeError, match="axis 3"):
        x.size(3)


def test_a_view_shares_memory_or_is_refused():
    x = counted(2, 6)
    flat = x.view(-1)
    flat[3] = 50.0
    assert x.data[0, 3] == 50
    assert x.view(3, -1).shape == x.view((3, 4)).shape == (3, 4)
    turned = x.transpose(0, 1)
    with pytest.raises(ShapeError, match="contiguous"):
        turned.view(-1)
    np.testing.assert_array_equal(turned.contiguous().view(-1).numpy(), x.numpy().T.reshape(-1))
    assert x.contiguous() is x
    assert not turned.is_contiguous()
    assert tg.zeros(0, 3).view(3, 0).shape == (3, 0)


def test_repetitions():
    x = counted(2, 3)
    np.testing.assert_array_equal(x.repeat(2, 1, 2).numpy(), np.tile(x.numpy(), (2, 1, 2)))
    np.testing.assert_array_equal(x.repeat_interleave(2).numpy(), np.repeat(x.numpy(), 2))
    np.testing.assert_array_equal(
        x.repeat_interleave(3, dim=0).numpy(), np.repeat(x.numpy(), 3, axis=0)
    )
    assert x.expand(4, -1, 3).shape == (4, 2, 3)
    assert x[:, :1].expand_as(x).shape == (2, 3)
    for wrong in [(3,), (-1, 2, 3), (2, 4)]:
        with pytest.raises(ShapeError):
            x.expand(*wrong)
    with pytest.raises(ShapeError, match="repeat_interleave"):
        x.repeat(2)
    with pytest.raises(tg.errors.ConfigError, match="one number of copies"):
        x.repeat_interleave([1, 2])


def test_parts_and_joined_axes():
    x = counted(2, 3, 4)
    assert [p.shape for p in x.chunk(3, dim=2)] == [(2, 3, 2)] * 2  # as many as it takes
    assert [p.shape[2] for p in x.chunk(2, axis=-1)] == [2, 2]
    assert [p.shape for p in x.unbind(1)] == [(2, 4)] * 3
    assert x.flatten().shape == (24,)
    assert x.flatten(1).shape == (2, 12)
    assert x.flatten(0, -2).shape == x.flatten(start_dim=0, end_dim=1).shape == (6, 4)
    assert tg.tensor(1.0).flatten().shape == (1,)
    assert x.unflatten(-1, (2, -1)).shape == (2, 3, 2, 2)
    assert tg.zeros(0, 4).unflatten(-1, (2, -1)).shape == (0, 2, 2)
    for wrong in [(5,), (3, -1), (-1, -1)]:
        with pytest.raises(ShapeError, match="unflatten"):
            x.unflatten(2, wrong)
    with pytest.raises(ShapeError, match="comes behind"):
        x.flatten(2, 1)


MOVES = {
    "view": lambda x: x.view(4, 6),
    "permute": lambda x: x.permute(2, 0, 1),
    "swap": lambda x: x.transpose(0, 2),
    "repeat": lambda x: x.repeat(2, 1, 2),
    "interleave": lambda x: x.repeat_interleave(2, 1),
    "expand": lambda x: x.expand(2, -1, -1, -1),
    "chunk": lambda x: x.chunk(3, 2)[1],
    "split": lambda x: x.split([1, 3], dim=2)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "unflatten": lambda x: x.unflatten(2, (2, 2)),
    "contiguous": lambda x: x.T.contiguous(),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(),
    "tril": lambda x: x.tril(),
    "triu": lambda x: x.triu(1),
    "std": lambda x: x.std(dim=1),
    "var": lambda x: x.var(dim=-1, unbiased=False),
    "clamp": lambda x: x.clamp(min=0.1),
    "where": lambda x: x.where(x > 0, x * 2),
    "square": lambda x: x.square(),
    "index_select": lambda x: x.index_select(1, [2, 0, 2]),
    "sort": lambda x: x.sort(1).values,
    "topk": lambda x: x.topk(2, dim=2)[0],
    "max": lambda x: x.max(dim=1).values,
    "half": lambda x: x.double() * 2,
    "clone": lambda x: x.clone(),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_gradients_of_what_is_composed_of_ops(move):
    x = np.random.default_rng(0).permutation(24).reshape(2, 3, 4) / 7.0 - 1.6
    tg.gradcheck(move, [x])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.view("a"),
        lambda x: x.view(tg.float32),
        lambda x: x.reshape(2.5),
        lambda x: x.expand("a"),
        lambda x: x.repeat(1.5, 1, 1),
        lambda x: x.repeat(-1, 1, 1),
        lambda x: x.chunk(0),
        lambda x: x.chunk(2.5),
        lambda x: x.topk(2.5),
        lambda x: x.size("a"),
        lambda x: x.transpose("a", 1),
        lambda x: x.unflatten(2, "ab"),
        lambda x: x.split("a", dim=0),
        lambda x: x.softmax(dim=None),
        lambda x: x.cumsum(dim=None),
        lambda x: x.flatten("a"),
        lambda x: x.argmax(axis=(0, 1)),
        lambda x: x.max(dim=(0, 1)),
        lambda x: x[0, 0].tril(),
        lambda x: x.gather(1, "a"),
        lambda x: x.index_select(0, [[0]]),
        lambda x: x.equal("a"),
        lambda x: x.allclose("a"),
        lambda x: x.maximum("a"),
        lambda x: x & "a",
        lambda x: x % None,
        lambda x: x.masked_fill_(x, 0),
        lambda x: x.fill_("a"),
        lambda x: x.clamp(),
    ],
)
def test_what_makes_no_sense_is_an_error_of_ours(wrong):
    with pytest.raises(tg.errors.TinygradLLMError):
        wrong(counted(2, 3, 4))


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
