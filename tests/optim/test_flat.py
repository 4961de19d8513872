"""The flat arrays: views, what is assigned from outside, frozen parameters, errors."""

import copy

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, GraphError
from tinygrad_llm.optim import SGD, AdamW, decay_groups

IDS = np.array([[1, 2, 3]])


def small_gpt():
    return nn.GPT(nn.GPTConfig(7, 4, 1, 2, 4))


def test_parameters_and_gradients_become_views_of_one_array():
    model = small_gpt()
    before = [p.data.copy() for p in model.parameters()]
    optimizer = AdamW(model)
    (buffer,) = optimizer.buffers
    model.loss(IDS, IDS).backward()
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, old)
        assert np.shares_memory(p.data, buffer.data)
        assert np.shares_memory(p.grad, buffer.grad)
    assert [g.size for g in optimizer.gradients()] == [buffer.data.size]


def test_gradients_accumulate_in_the_flat_array_as_they_do_without():
    model = small_gpt()
    model.loss(IDS, IDS).backward()
    model.loss(IDS, IDS[:, ::-1]).backward()
    want = [p.grad.copy() for p in model.parameters()]
    model.zero_grad()
    AdamW(model)
    for targets in (IDS, IDS[:, ::-1]):
        model.loss(IDS, targets).backward()
    for (name, p), g in zip(model.named_parameters(), want, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-5, atol=1e-8, err_msg=name)


def test_stale_gradients_of_an_earlier_step_do_not_come_back():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = SGD([a, b], lr=1.0)
    (a * 2 + b * 3).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    (a * 5).sum().backward()
    optimizer.step()
    assert (a.item(), b.item()) == (1 - 2 - 5, 1 - 3)


def test_values_and_gradients_assigned_from_outside_count():
    p = nn.Parameter(np.zeros(3, np.float32))
    optimizer = SGD([p], lr=1.0)
    p.data = np.array([10.0, 20.0, 30.0], np.float32)
    p.grad = np.ones(3, np.float32)
    optimizer.step()
    np.testing.assert_array_equal(p.data, [9, 19, 29])
    assert np.shares_memory(p.data, optimizer.buffers[0].data)


def test_loading_half_precision_weights_reaches_the_master_weights():
    layer = nn.Linear(2, 2, bias=False).to("bfloat16")
    optimizer = SGD(layer, lr=0.5)
    layer.load_state_dict({"weight": np.full((2, 2), 3.0)})
    layer.weight.grad = np.ones((2, 2), layer.weight.dtype)
    optimizer.step()
    np.testing.assert_array_equal(layer.weight.data.astype(float), 2.5)


def test_a_second_optimizer_takes_over_and_the_first_still_works():
    p = nn.Parameter([1.0])
    first, second = SGD([p], lr=1.0), SGD([p], lr=10.0)
    for optimizer, want in ((second, -9.0), (first, -10.0)):
        p.grad = np.ones(1, np.float32)
        optimizer.step()
        assert p.item() == want
        optimizer.zero_grad()


def test_frozen_parameters_are_left_out():
    model = small_gpt()
    nn.freeze(model, except_for=["final_norm"])
    optimizer = AdamW(model)
    assert optimizer.param_groups[0]["names"] == ["final_norm.weight", "final_norm.bias"]
    assert not np.shares_memory(model.token_embedding.weight.data, optimizer.buffers[0].data)


def test_a_frozen_parameter_that_is_learned_later_is_refused():
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    model, optimizer = copy.deepcopy((layer, SGD(layer, lr=0.1)))
    for step in range(2):
        model.weight.requires_grad_(step == 1)
        model(tg.ones(1, 2)).sum().backward()
        if step == 0:
            optimizer.step()
    with pytest.raises(ConfigError, match="'weight' was frozen when the optimizer was made"):
        optimizer.step()
    model.weight.requires_grad_(False)
    optimizer.step()


def test_mixed_types_stand_in_arrays_of_their_own():
    a, b = nn.Parameter(np.zeros(3), dtype="float64"), nn.Parameter(np.zeros(2, np.float32))
    optimizer = AdamW([a, b], lr=0.1)
    a.grad, b.grad = np.ones(3), np.ones(2, np.float32)
    optimizer.step()
    assert len(optimizer.buffers) == 2
    np.testing.assert_allclose(a.data, -0.1, rtol=1e-6)
    np.testing.assert_allclose(b.data, -0.1, rtol=1e-6)


def test_decay_groups_split_matrices_from_vectors():
    model = small_gpt()
    optimizer = AdamW(decay_groups(model, 0.2), lr=0.1)
    decayed, other = optimizer.param_groups
    assert (decayed["weight_decay"], other["weight_decay"]) == (0.2, 0.0)
    assert all(p.ndim == 2 for p in decayed["params"])
    assert all(p.ndim == 1 for p in other["params"])
    names = {*decayed["names"], *other["names"]}
    assert names == {name for name, _ in model.named_parameters()}


def test_the_step_is_seen_as_a_write():
    p = nn.Parameter([2.0])
    optimizer = SGD([p], lr=0.1)
    loss = (p * p).sum()
    p.grad = np.ones(1, np.float32)
    optimizer.step()
    with pytest.raises(GraphError, match="overwritten"):
        loss.backward()


def test_a_moved_model_asks_for_a_new_optimizer():
    layer = nn.Linear(2, 2)
    optimizer = AdamW(layer)
    layer.to("float64")
    with pytest.raises(ConfigError, match=r"'weight' was \(2, 2\) of type float32.*float64"):
        optimizer.step()


@pytest.mark.parametrize(
    "op",
    [
        lambda w, b: tg.functional.feed_forward(w, w, b, w, b),
        lambda w, b: tg.functional.linear(w, w, b),
        lambda w, b: tg.functional.layer_norm(w, b, b),
        lambda w, b: tg.functional.linear_cross_entropy(w, w, np.arange(6), b),
    ],
    ids=["feed_forward", "linear", "layer_norm", "linear_cross_entropy"],
)
def test_a_parameter_that_is_two_arguments_of_an_op_gets_both_gradients(op):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=size).astype(np.float32) for size in ((6, 6), (6,))]
    expected, found = ([tg.tensor(v, requires_grad=True) for v in values] for _ in "12")
    w, b = expected
    op(w, b).sum().backward()
    AdamW(found)
    op(*found).sum().backward()
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f.grad, e.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: AdamW([]), "nothing to optimize"),
        (lambda p: AdamW([p, p]), "given twice"),
        (lambda p: AdamW([p.data]), "got ndarray"),
        (lambda p: AdamW([p * 2]), "leaf Tensors"),
        (lambda p: AdamW([{"params": [p], "rate": 1}]), "rate"),
        (lambda p: AdamW([{"lr": 1.0}]), "needs 'params'"),
        (lambda p: AdamW([("x", p), ("x", nn.Parameter([1.0]))]), "two parameters are called 'x'"),
        (lambda p: AdamW([p], lr=-1), "lr must be a number of at least 0"),
        (lambda p: AdamW([p], lr="a"), "lr must be a number of at least 0, got 'a'"),
        (lambda p: SGD([p], lr=None), "lr must be a number"),
        (lambda p: SGD([p], lr=nn.Parameter([0.1])), "lr must be a number"),
        (lambda p: AdamW([p], weight_decay="a"), "weight_decay must be a number"),
        (lambda p: AdamW([p], betas=None), "betas must be two numbers"),
        (lambda p: AdamW([p], betas=("a", 0.9)), "betas must be two numbers"),
        (lambda p: AdamW([p], eps="a"), "eps must be a number"),
        (lambda p: SGD([p], momentum="a"), "momentum must be a number"),
        (lambda p: AdamW(None), "AdamW: expected a model, its parameters or groups.*NoneType"),
        (lambda p: SGD(3), "SGD: expected a model.*got int"),
        (lambda p: SGD(nn.Linear), "SGD: expected a model.*got type"),
        (lambda p: AdamW([{"params": None}]), "expected a model.*got NoneType"),
        (lambda p: tg.optim.decay_groups(None), "decay_groups: expected a model"),
        (lambda p: AdamW([p], betas=(0.9, 1.0)), "betas"),
        (lambda p: AdamW([p], eps=0), "eps"),
        (lambda p: SGD([p], momentum=1.0), "momentum"),
        (lambda p: SGD([p], nesterov=True), "nesterov"),
        (lambda p: SGD([{"params": [p], "momentum": 0.9}]), "momentum"),
        (lambda p: AdamW([p.requires_grad_(False)]), "frozen"),
    ],
)
def test_misuse_is_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build(nn.Parameter([1.0]))


def test_a_generator_of_named_parameters_gives_names():
    optimizer = AdamW(nn.Linear(2, 1).named_parameters())
    assert optimizer.param_groups[0]["names"] == ["weight", "bias"]
    assert AdamW(nn.Linear(2, 1).parameters()).param_groups[0]["names"] == ["0", "1"]
    assert AdamW(nn.Parameter([1.0])).lr == 1e-3
    assert tg.optim.AdamW is AdamW


def test_what_names_its_parameters_need_not_be_a_module():
    class Line:
        slope, height = tg.tensor([2.0], requires_grad=True), nn.Parameter([3.0])

        def named_parameters(self):
            return [("slope", self.slope), ("height", self.height)]

    line = Line()
    optimizer = SGD(line, lr=0.5)
    (line.slope * 4 + line.height).sum().backward()
    assert nn.utils.clip_grad_norm_(line, np.inf) == pytest.approx(17**0.5)
    optimizer.step()
    assert optimizer.param_groups[0]["names"] == ["slope", "height"]
    assert (line.slope.item(), line.height.item()) == (0.0, 2.5)
