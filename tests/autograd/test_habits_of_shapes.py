"""Axes and shapes written as for PyTorch or NumPy do what is meant, or say what to write."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import ShapeError


def counted(*shape, grad=False):
    return tg.tensor(np.arange(float(np.prod(shape))).reshape(shape), requires_grad=grad)


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
