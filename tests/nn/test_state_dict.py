"""state_dict and load_state_dict: all of it, or, when anything does not fit, nothing."""

import numpy as np
import pytest
from nested_net import NAMES, Net

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.optim import SGD


def test_state_dict_round_trip_and_independence_of_order(rng):
    a, b = Net(), Net()
    shuffled = dict(reversed(a.state_dict().items()))
    assert b.load_state_dict(shuffled) == ([], [])
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)
        assert not np.shares_memory(p.data, q.data)


def test_bad_state_dict_names_every_mistake_and_loads_nothing():
    net = Net()
    before = {name: p.data.copy() for name, p in net.named_parameters()}
    state = {name: np.full(p.shape, 9.0) for name, p in net.named_parameters()}
    del state["first.weight"], state["stack.1.bias"]
    state["stack.0.weight"] = np.zeros((4, 5))
    state["first.bias"] = np.array(["a", "b", "c", "d"])
    state["stray"] = np.zeros(2)
    with pytest.raises(CheckpointError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for part in (
        "missing (2): first.weight; stack.1.bias",
        "unexpected (1): stray",
        "stack.0.weight: expected (4, 4), got (4, 5)",
        "first.bias",
        "type <U1",
        "nothing was loaded",
        "pass strict=False",
    ):
        assert part in text
    with pytest.raises(CheckpointError, match="wrong shape") as caught:
        net.load_state_dict(state, strict=False)  # a wrong shape is refused even then
    assert "pass strict=False" not in str(caught.value)
    for name, p in net.named_parameters():
        np.testing.assert_array_equal(p.data, before[name])


@pytest.mark.parametrize("given", [None, 3, "model.safetensors", nn.Linear(2, 2)], ids=str)
def test_a_state_is_what_state_dict_returned(given):
    model = nn.Linear(2, 2)
    for owner in (model, SGD(model)):
        with pytest.raises(CheckpointError, match=r"load_state_dict: expected what state_dict\(\)"):
            owner.load_state_dict(given)


def test_not_strict_loads_what_agrees_and_reports_the_rest():
    net = Net()
    missing, unexpected = net.load_state_dict({"scale": [7.0], "other": [1]}, strict=False)
    assert missing == NAMES[1:]
    assert unexpected == ["other"]
    assert net.scale.item() == 7.0


def test_assign_shares_the_array_and_copy_does_not():
    weights = np.ones((4, 3), np.float32)
    net = nn.Linear(3, 4, bias=False)
    net.load_state_dict({"weight": weights}, assign=True)
    assert net.weight.data is weights
    net.load_state_dict({"weight": weights * 2})
    assert net.weight.data is weights
    assert weights[0, 0] == 2


def test_loading_between_forward_and_backward_is_noticed(rng):
    net = nn.Linear(3, 2)
    x = tg.tensor(rng.normal(size=(4, 3)), dtype="float32", requires_grad=True)
    loss = net(x).sum()
    net.load_state_dict({"weight": np.zeros((2, 3)), "bias": np.zeros(2)})
    with pytest.raises(tg.errors.GraphError, match="overwritten"):
        loss.backward()
