"""Buffers: what moves and is saved with a module, and is not learned."""

import copy

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError, ConfigError


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter([[1.0, 2.0], [3.0, 4.0]])
        self.register_buffer("mask", tg.tensor([[0.0, 1.0], [0.0, 0.0]]))
        self.register_buffer("order", tg.tensor([1, 0]), persistent=False)
        self.register_buffer("later", None)
        self.inner = nn.Module()
        self.inner.register_buffer("seen", tg.tensor([True, False]))

    def forward(self):
        return self.weight.masked_fill(self.mask != 0, 0.0)


def test_buffers_are_named_and_no_parameters():
    net = Masked()
    assert [name for name, _ in net.named_buffers()] == ["mask", "order", "inner.seen"]
    assert [name for name, _ in net.named_buffers("net", recurse=False)] == [
        "net.mask",
        "net.order",
    ]
    assert next(net.buffers()) is net.mask
    assert [name for name, _ in net.named_parameters()] == ["weight"]
    assert net.num_parameters() == 4
    assert "buffer mask (2, 2)" in repr(net)


def test_a_shared_buffer_comes_once():
    net = Masked()
    net.inner.register_buffer("again", net.mask)
    assert [name for name, _ in net.named_buffers()] == ["mask", "order", "inner.seen"]


def test_buffers_move_and_only_floating_point_ones_change_type():
    net = Masked().to("float64")
    assert [b.dtype.name for b in net.buffers()] == ["float64", "int64", "bool"]
    assert net.weight.dtype == np.float64


def test_persistent_buffers_are_saved_and_loaded():
    net, other = Masked(), Masked()
    assert list(net.state_dict()) == ["weight", "mask", "inner.seen"]
    net.mask[0, 0] = 5.0
    net.inner.seen[1] = True
    assert other.load_state_dict(net.state_dict()) == ([], [])
    np.testing.assert_array_equal(other.mask.numpy(), [[5, 1], [0, 0]])
    np.testing.assert_array_equal(other.inner.seen.numpy(), [True, True])
    state = net.state_dict()
    del state["mask"]
    with pytest.raises(CheckpointError, match=r"missing \(1\): mask"):
        other.load_state_dict(state)


def test_a_buffer_filled_later_is_a_buffer_from_then_on():
    net = Masked()
    net.later = tg.tensor([7.0])
    net.mask = tg.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert [name for name, _ in net.named_buffers()] == ["mask", "order", "later", "inner.seen"]
    assert net().data.max() == 0
    assert list(net.state_dict()) == ["weight", "mask", "later", "inner.seen"]
    net.mask = None
    assert "mask" not in net.state_dict()


def test_loading_can_assign_the_array_itself():
    net, mask = Masked(), np.ones((2, 2), np.float32)
    net.load_state_dict({"mask": mask}, strict=False, assign=True)
    assert net.mask.data is mask


def test_a_copy_has_buffers_of_its_own():
    net = Masked()
    copied = copy.deepcopy(net)
    copied.mask[0, 0] = 9.0
    assert net.mask[0, 0].item() == 0
    assert [name for name, _ in copied.named_buffers()] == ["mask", "order", "inner.seen"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight", tg.tensor([1.0]), "there is an attribute 'weight' already"),
        ("forward", tg.tensor([1.0]), "already"),
        ("a.b", tg.tensor([1.0]), "without dots"),
        ("", tg.tensor([1.0]), "not empty"),
        (3, tg.tensor([1.0]), "text"),
        ("array", np.zeros(2), "must be a Tensor or None, got ndarray.*tg.tensor"),
    ],
)
def test_what_cannot_be_a_buffer_is_refused(name, value, message):
    with pytest.raises(ConfigError, match=message):
        Masked().register_buffer(name, value)


def test_a_buffer_takes_nothing_but_tensors():
    net = Masked()
    with pytest.raises(ConfigError, match="takes a Tensor or None, got ndarray"):
        net.mask = np.zeros((2, 2))
