"""Module: registration, names, hooks, modes."""

import copy

import numpy as np
import pytest
from nested_net import NAMES, Net

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.errors import ConfigError, DTypeError


def test_parameters_are_found_by_attribute_and_tied_ones_come_once():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert len(list(net.parameters())) == len({id(p) for p in net.parameters()})
    assert net.num_parameters() == 1 + 12 + 4 + 16 + 4 + 4 + 4
    assert [name for name, _ in net.named_modules()] == [
        "",
        "first",
        "stack",
        "stack.0",
        "stack.1",
        "tied",
    ]
    assert [name for name, _ in net.named_children()] == ["first", "stack", "tied"]
    assert net.get_submodule("stack.1") is net.stack[1]


def test_gradients_of_all_parameters_are_those_of_finite_differences(rng):
    net = Net()
    net.tied = None  # not used in forward
    report = tg.gradcheck(net, [rng.normal(size=(2, 5, 3))])
    assert len(report.entries) == 1 + 6
    assert report.error < 1e-6


def test_zero_grad_forgets_and_two_backwards_add_up(rng):
    net = Net()
    x = rng.normal(size=(2, 3)).astype(np.float32)
    net(x).sum().backward()
    once = net.first.bias.grad.copy()
    net(x).sum().backward()
    np.testing.assert_allclose(net.first.bias.grad, 2 * once, rtol=1e-5, atol=1e-6)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_train_eval_and_requires_grad_reach_all_modules():
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    net.requires_grad_(False)
    assert net.num_parameters(trainable_only=True) == 0
    net.stack.requires_grad_()
    assert net.num_parameters(trainable_only=True) == 24


def test_evaluating_gives_each_module_its_own_mode_back():
    net = Net()
    net.stack[0].eval()
    before = [m.training for m in net.modules()]
    assert set(before) == {True, False}
    with net.evaluating():
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == before
    with pytest.raises(KeyError), net.evaluating():
        raise KeyError
    assert [m.training for m in net.modules()] == before


def test_evaluating_may_be_entered_again_inside_itself_too():
    net = Net()
    evaluating = net.evaluating()
    for _ in range(2):
        with evaluating:
            with evaluating:
                pass
            assert not any(m.training for m in net.modules())
        assert all(m.training for m in net.modules())


def test_to_changes_type_of_parameters_and_constants_and_keeps_ties(rng):
    net = Net().to("float64")
    assert {p.dtype.name for p in net.parameters()} == {"float64"}
    assert net.offset.dtype == np.float64
    assert net.tied.weight is net.first.weight
    assert net(rng.normal(size=(1, 3))).dtype == np.float64
    assert net.to("cpu").device == "cpu"
    with pytest.raises(ConfigError, match="floating-point"):
        net.to("int64")
    with pytest.raises(DTypeError):
        net.to("no-such-type")


class Scopes(Observer):
    def __init__(self):
        self.seen = []

    def after_forward(self, node, arrays, out):
        self.seen.append((node.scope, node.name))


def test_traced_ops_carry_the_path_of_their_module():
    net = Net()
    with Scopes() as scopes:
        net(tg.tensor([[1.0, 2.0, 3.0]]))
    assert ("first", "linear") in scopes.seen
    assert ("stack.0", "linear") in scopes.seen
    assert ("stack.1", "layer_norm") in scopes.seen
    assert ("", "multiply") in scopes.seen
    model = nn.GPT(nn.GPTConfig(5, 4, 2, 1, 4))
    with Scopes() as scopes:
        model([[1, 2]])
    assert ("blocks.1.attention.qkv", "linear") in scopes.seen
    assert ("blocks.0.norm2", "add_layer_norm") in scopes.seen  # its residual sum, added up


def test_a_copy_is_independent_and_keeps_ties():
    net = Net()
    net(tg.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    copied = copy.deepcopy(net)
    assert copied.tied.weight is copied.first.weight
    assert copied.first.weight.grad is None
    copied.first.weight.data[...] = 0
    assert np.abs(net.first.weight.data).sum() > 0


def test_plain_lists_and_overwritten_parameters_are_refused():
    net = nn.Module()
    with pytest.raises(ConfigError, match="ModuleList"):
        net.layers = [nn.Linear(1, 1)]
    layer = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="expected a Parameter"):
        layer.weight = np.zeros((2, 2))
    with pytest.raises(ConfigError, match="expected a Module"):
        nn.ModuleList([3])
    with pytest.raises(ConfigError, match="no submodule 'nope'"):
        layer.get_submodule("nope")


def test_a_module_is_put_in_the_place_of_another():
    net, new = Net(), nn.Linear(4, 4)
    net.set_submodule("stack.0", new)
    assert net.stack[0] is new
    with Scopes() as scopes:
        net(tg.tensor([[1.0, 2.0, 3.0]]))
    assert [name for path, name in scopes.seen if path == "stack.0"] == ["linear"]
    for path in ("stack.7", ""):
        with pytest.raises(ConfigError, match="Net: "):
            net.set_submodule(path, new)


def test_sequential_and_module_list():
    layers = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert layers(tg.tensor([[1.0, 1.0]])).shape == (1, 1)
    assert len(layers) == 2
    layers[-1] = nn.Linear(3, 5)
    assert [name for name, _ in layers.named_parameters()][-1] == "1.bias"
    assert layers(tg.tensor([[1.0, 1.0]])).shape == (1, 5)


def test_print_shows_tree_shapes_and_counts():
    text = repr(nn.GPT(nn.GPTConfig(10, 4, 1, 2, 8, dropout=0.1)))
    assert text.splitlines()[0] == "GPT  1,000 parameters"
    assert "  token_embedding: Embedding  80  weight (10, 8)" in text
    assert "        qkv: Linear  216  weight (24, 8), bias (24,)" in text
    assert "p=0.1" in text
    assert "frozen" in repr(nn.Linear(2, 2).requires_grad_(False))


def test_apply_visits_every_module():
    names = []
    Net().apply(lambda m: names.append(type(m).__name__))
    assert names == ["Net", "Linear", "ModuleList", "Linear", "LayerNorm", "Linear"]


def test_modules_in_a_plain_dict_are_refused():
    net = nn.Module()
    with pytest.raises(ConfigError, match="ModuleDict"):
        net.parts = {"first": nn.Linear(1, 1)}
    net.settings = {"width": 3}


def test_own_parameters_alone():
    net = Net()
    assert [name for name, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert next(iter(net.parameters(recurse=False))) is net.scale
    assert [name for name, _ in net.named_parameters("net")][0] == "net.scale"


def test_computed_names():
    net = nn.Module()
    for i in range(2):
        net.add_module(f"layer{i}", nn.Linear(2, 2, bias=False))
    net.register_parameter("scale", nn.Parameter([1.0]))
    net.register_parameter("bias", None)
    assert [n for n, _ in net.named_parameters()] == ["scale", "layer0.weight", "layer1.weight"]
    with pytest.raises(ConfigError, match="without dots"):
        net.add_module("a.b", nn.Linear(2, 2))


def test_the_names_of_types_and_devices():
    net = Net()
    for method, dtype in [("double", "float64"), ("half", "float16"), ("float", "float32")]:
        assert getattr(net, method)() is net
        assert {p.dtype.name for p in net.parameters()} == {dtype}
    assert net.cpu().device == "cpu"
    assert net.to("cpu", "float64").scale.dtype == np.float64
    assert net.to(device="cpu", dtype=np.float32).scale.dtype == np.float32
    with pytest.raises(ConfigError, match="device"):
        net.to()


def test_zero_grad_can_fill_with_zeros():
    net, optimizer_net = Net(), Net()
    optimizer = tg.optim.SGD(optimizer_net.parameters(), lr=1.0, weight_decay=0.5)
    for module, zero in [(net, net.zero_grad), (optimizer_net, optimizer.zero_grad)]:
        module(tg.tensor([[1.0, 2.0, 3.0]])).sum().backward()
        zero(set_to_none=False)
        assert not module.first.weight.grad.any()
        assert module.tied.bias.grad is None  # it never had one
    before = optimizer_net.scale.item()
    optimizer.step()
    assert optimizer_net.scale.item() == before / 2  # a gradient of 0 is decayed, none is not
    optimizer.zero_grad(set_to_none=True)
    assert all(p.grad is None for p in optimizer_net.parameters())


def test_methods_left_out_name_our_way_and_others_are_plain_errors():
    layer = nn.Linear(2, 2)
    with pytest.raises(tg.errors.LeftOutError, match="Linear.compile is left out"):
        layer.compile()
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'"):
        layer.wieght
    assert not hasattr(layer, "get_parameter")

    class Broken(nn.Module):
        @property
        def width(self):
            return self.weight.shape[0]

    with pytest.raises(AttributeError, match="'Broken' object has no attribute 'weight'"):
        Broken().width
    assert copy.copy(layer).weight is layer.weight
