"""Saving and loading an optimizer: exact, by name, through JSON, and nothing on an error."""

import copy
import json

import numpy as np
import pytest

from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.optim import SGD, AdamW, decay_groups


def stepped(optimizer, parameters, rng, n):
    for _ in range(n):
        for p in parameters:
            p.grad = rng.normal(size=p.shape).astype(p.dtype)
        optimizer.step()
        optimizer.zero_grad()


def saved(optimizer):
    """As a checkpoint keeps it: settings through JSON, arrays copied."""
    state = optimizer.state_dict()
    settings = json.loads(json.dumps(state["settings"]))
    return {"settings": settings, "arrays": {k: a.copy() for k, a in state["arrays"].items()}}


def make(kind, layer, order=1):
    groups = [{**group, "params": group["params"][::order]} for group in decay_groups(layer, 0.1)][
        ::order
    ]
    return SGD(groups, 0.1, momentum=0.9) if kind == "sgd" else AdamW(groups, lr=0.1)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights_first", [True, False])
def test_a_resumed_run_has_the_same_bits_even_in_another_order(kind, dtype, weights_first):
    layer = nn.FeedForward(3).to(dtype)
    optimizer = make(kind, layer)
    stepped(optimizer, list(layer.parameters()), np.random.default_rng(1), 3)
    optimizer.param_groups[0]["lr"] = 0.03
    state = saved(optimizer)
    weights = {k: t.numpy().copy() for k, t in layer.state_dict().items()}

    other = nn.FeedForward(3).to(dtype)
    resumed = make(kind, other, order=-1)
    loads = [lambda: other.load_state_dict(weights), lambda: resumed.load_state_dict(state)]
    for load in loads if weights_first else reversed(loads):
        load()
    for model, opt in ((layer, optimizer), (other, resumed)):
        stepped(opt, list(model.parameters()), np.random.default_rng(2), 4)
    for (name, p), q in zip(layer.named_parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)
    assert resumed.param_groups[1]["lr"] == 0.03


def trained(kind, dtype):
    layer = nn.FeedForward(3).to(dtype)
    optimizer = make(kind, layer)
    stepped(optimizer, list(layer.parameters()), np.random.default_rng(1), 3)
    return layer, optimizer


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_state_goes_to_parameters_of_another_type_and_back(kind):
    """From bfloat16 to float32 nothing is lost; on the way back the weights are rounded."""
    state = saved(trained(kind, "bfloat16")[1])
    layer, wide = trained(kind, "float32")
    wide.load_state_dict(state)
    for name, p in layer.named_parameters():
        np.testing.assert_array_equal(p.data, state["arrays"][f"master.{name}"])
    stepped(wide, list(layer.parameters()), np.random.default_rng(3), 1)

    other, narrow = trained(kind, "bfloat16")
    other.load_state_dict(layer.state_dict())
    narrow.load_state_dict(saved(wide))
    found = narrow.state_dict()["arrays"]
    for (name, p), q in zip(layer.named_parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(q.data, p.data.astype(q.dtype))
        np.testing.assert_array_equal(found[f"master.{name}"], q.data.astype(np.float32))
    for name, moment in wide.state_dict()["arrays"].items():
        np.testing.assert_array_equal(found[name], moment)
    assert narrow.state_dict()["settings"]["steps"] == wide.state_dict()["settings"]["steps"]


def damaged(change):
    layer = nn.Linear(3, 2)
    optimizer = AdamW(layer)
    stepped(optimizer, list(layer.parameters()), np.random.default_rng(1), 2)
    state = copy.deepcopy(saved(optimizer))
    change(state)
    return optimizer, state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["arrays"].pop("first_moment.weight"), "missing: first_moment.weight"),
        (lambda s: s["arrays"].update(extra=np.zeros(1)), "unexpected: extra"),
        (lambda s: s["arrays"].update({"second_moment.bias": np.zeros(3)}), r"\(2,\), got \(3,\)"),
        (lambda s: s["settings"].update(type="SGD"), "this state is of 'SGD'"),
        (lambda s: s["settings"]["groups"][0]["names"].pop(), "grouped differently"),
        (lambda s: s["settings"]["groups"][0].pop("eps"), "lacks eps"),
        (lambda s: s["settings"]["steps"].pop("bias"), "number of steps for bias"),
        (lambda s: s["settings"].pop("groups"), "expected what state_dict"),
        (lambda s: s.pop("arrays"), "expected what state_dict"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(change, message):
    optimizer, state = damaged(change)
    before = saved(optimizer)
    with pytest.raises(CheckpointError, match=message):
        optimizer.load_state_dict(state)
    after = saved(optimizer)
    assert after["settings"] == before["settings"]
    for name, array in before["arrays"].items():
        np.testing.assert_array_equal(after["arrays"][name], array)
