"""Copies of models and optimizers train as the originals do; what shares memory stays together."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, GraphError
from tinygrad_llm.nn.residual import ResidualSum
from tinygrad_llm.optim import SGD, Adam, AdamW, decay_groups, lr_scheduler

IDS = np.array([[1, 2, 3, 4]])


def small_gpt(dtype="float32"):
    tg.manual_seed(0)
    return nn.GPT(nn.GPTConfig(7, 4, 1, 2, 4)).to(dtype)


def train(model, optimizer, n):
    for i in range(n):
        optimizer.zero_grad()
        model.loss(IDS, np.roll(IDS, i)).backward()
        optimizer.step()


def weights(model):
    return {name: p.data.astype(np.float64) for name, p in model.named_parameters()}


def assert_equal(found, expected):
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def pickled(x):
    return pickle.loads(pickle.dumps(x))


COPY = pytest.mark.parametrize("copied", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
OPTIMIZERS = {
    "sgd": lambda m: SGD(m, lr=0.1),
    "momentum": lambda m: SGD(m, lr=0.1, momentum=0.9),
    "adam": lambda m: Adam(m, lr=0.01),
    "adamw": lambda m: AdamW(decay_groups(m), lr=0.01),
}


@COPY
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_copied_pair_goes_on_as_the_original_does(make, dtype, copied):
    model = small_gpt(dtype)
    optimizer = OPTIMIZERS[make](model)
    train(model, optimizer, 3)
    before = weights(model)
    other_optimizer, other = copied((optimizer, model))
    assert_equal(weights(other), before)
    train(other, other_optimizer, 3)
    assert_equal(weights(model), before)  # no memory in common
    train(model, optimizer, 3)
    assert_equal(weights(other), weights(model))
    assert any((weights(other)[name] != array).any() for name, array in before.items())


@COPY
def test_copied_parameters_have_no_gradient(copied):
    model = small_gpt()
    optimizer = SGD(model, lr=0.1)
    model.loss(IDS, IDS).backward()
    other, other_optimizer = copied((model, optimizer))
    assert all(p.grad is None for p in other.parameters())
    assert all(p.grad is not None for p in model.parameters())
    other.loss(IDS, IDS).backward()
    for o in (optimizer, other_optimizer):
        o.step()
    assert_equal(weights(other), weights(model))


@COPY
def test_weights_of_16_bits_that_were_edited_are_copied_as_edited(copied):
    model = small_gpt("bfloat16")
    optimizer = SGD(model, lr=0.0)
    train(model, optimizer, 1)
    with tg.no_grad():
        model.token_embedding.weight[...] = 3.0
    other, other_optimizer = copied((model, optimizer))
    train(other, other_optimizer, 1)
    assert (weights(other)["token_embedding.weight"] == 3).all()


@COPY
def test_a_schedule_is_copied_with_its_optimizer(copied):
    model = small_gpt()
    optimizer = SGD(model, lr=1.0)
    schedule = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    other, other_optimizer, other_schedule = copied((model, optimizer, schedule))
    other_schedule.step()
    assert (optimizer.lr, other_optimizer.lr) == (1.0, 0.5)
    assert [*other.parameters()][0] is other_optimizer.param_groups[0]["params"][0]


@COPY
def test_a_copy_of_the_model_alone_has_no_part_in_the_optimizer(copied):
    model = small_gpt()
    optimizer = AdamW(model)
    train(model, optimizer, 1)
    other = copied(model)
    before = weights(other)
    train(model, optimizer, 1)
    assert_equal(weights(other), before)
    assert all(p.gradient_sink is None for p in other.parameters())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle(protocol):
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = pickle.loads(pickle.dumps(x, protocol))
    assert type(y) is tg.Tensor
    assert (y.tolist(), y.grad.tolist(), y.requires_grad) == ([1, 2], [2, 4], True)
    p = nn.Parameter([1.0], requires_grad=False)
    p.note = "kept"
    q = pickle.loads(pickle.dumps(p, protocol))
    assert type(q) is nn.Parameter
    assert (q.tolist(), q.requires_grad, q.note) == ([1], False, "kept")


@COPY
def test_a_result_is_not_copied_with_its_graph(copied):
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"result of op 'multiply'.*detach"):
        copied(x * 2.0)
    assert copied((x * 2.0).detach()).tolist() == [2, 4]
    with tg.no_grad():
        assert copied(ResidualSum(x, x)).tolist() == [2, 4]


def test_copies_have_no_hooks_and_share_nothing():
    x = tg.tensor([1.0], requires_grad=True)
    seen = []
    x.register_hook(seen.append)
    y = copy.deepcopy(x)
    (y * 2.0).sum().backward()
    assert not seen
    assert x.grad is None
    shallow = copy.copy(x)
    assert shallow.data is x.data


# ---- what shares a parameter's memory ------------------------------------------------------------


def test_a_state_dict_shows_the_parameters_also_after_an_optimizer_moved_them():
    model = small_gpt()
    state = model.state_dict()
    table = model.token_embedding.weight
    weight = table.detach()
    kept = copy.deepcopy(state)
    initial = weights(model)
    optimizer = SGD(model, lr=0.1)
    train(model, optimizer, 1)
    for name, p in model.named_parameters():
        assert state[name].data is p.data
    assert weight.data is table.data
    assert_equal({name: t.data for name, t in kept.items()}, initial)
    table.data = np.ones_like(table.data)
    later = table.detach()
    optimizer.step()
    assert later.data is table.data


def test_a_constant_with_other_values_keeps_them():
    p = nn.Parameter([1.0])
    constant = p.detach()
    constant.data = np.array([5.0], np.float32)
    SGD([p], lr=1.0)
    assert constant.item() == 5


def tied(tie):
    a, b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    tie(a.weight, b.weight)
    return nn.Sequential(a, b)


@pytest.mark.parametrize(
    "tie",
    [
        lambda a, b: setattr(b, "data", a.data),
        lambda a, b: setattr(b, "data", a.data.T),
        lambda a, b: setattr(b, "data", a.data[::-1]),
        lambda a, b: (setattr(b, "data", a.data), b.requires_grad_(False)),
        lambda a, b: (
            setattr(b, "data", np.concatenate([a.data, a.data])[1:4])
            or setattr(a, "data", b.data.base[:3])
        ),
    ],
    ids=["same", "transposed", "reversed", "frozen", "overlapping"],
)
def test_parameters_tied_by_their_arrays_are_refused(tie):
    with pytest.raises(ConfigError, match=r"'0.weight' and '1.weight' share memory.*one Parameter"):
        AdamW(tied(tie))


@pytest.mark.parametrize(
    "tie",
    [
        lambda a, b: setattr(b, "data", a.data),
        lambda a, b: setattr(b, "data", a.data.T),
        lambda a, b: [
            setattr(p, "data", array) for array in [np.ones((3, 3), np.float32)] for p in (a, b)
        ],
    ],
    ids=["same", "transposed", "a third"],
)
def test_tying_after_the_optimizer_was_made_is_refused_too(tie):
    model = tied(lambda a, b: None)
    optimizer = SGD(model, lr=0.1)
    tie(model[0].weight, model[1].weight)
    with pytest.raises(ConfigError, match=r"'0.weight' and '1.weight' share memory"):
        optimizer.step()


def test_neighbours_in_one_array_are_not_tied():
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    rows = [nn.Parameter(whole[0]), nn.Parameter(whole[1:])]
    columns = [nn.Parameter(whole[:, :2]), nn.Parameter(whole[:, 2:])]
    for pair in (rows, columns):
        SGD(pair, lr=0.1)
        SGD(pair, lr=0.1)  # neighbours in a flat array


def test_one_parameter_in_two_places_stays_one():
    a, b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    b.weight = a.weight
    model = nn.Sequential(a, b)
    optimizer = SGD(model, lr=0.1)
    model(tg.tensor(np.ones((1, 3), np.float32))).sum().backward()
    optimizer.step()
    assert a.weight is b.weight
    assert len(optimizer.buffers[0].slots) == 1
