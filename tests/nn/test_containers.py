"""ModuleList, Sequential and ModuleDict: what is held, under which names, in which order."""

from collections import OrderedDict

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError


def layers(*widths):
    return [nn.Linear(n, n, bias=False) for n in widths]


def widths(modules):
    return [m.in_features for m in modules]


def names(module):
    return [name for name, _ in module.named_parameters()]


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda ms: nn.Sequential(*ms)])
def test_a_list_grows_and_shrinks_like_a_list(kind):
    held, like = kind(layers(1, 2)), [1, 2]
    three, four, five, six = layers(3, 4, 5, 6)
    assert held.append(three) is held
    held.extend([four])
    held += [five]
    held.insert(0, six)
    like = [6, 1, 2, 3, 4, 5]
    assert widths(held) == like
    assert names(held) == [f"{i}.weight" for i in range(6)]
    held.insert(-1, nn.Linear(7, 7, bias=False))
    like.insert(-1, 7)
    assert widths(held) == like
    assert held.pop(1).in_features == like.pop(1)
    assert held.pop() is five
    like.pop()
    del held[0]
    del like[0]
    assert widths(held) == like
    assert names(held) == [f"{i}.weight" for i in range(len(like))]
    del held[1:]
    assert widths(held) == like[:1]
    with pytest.raises(IndexError):
        held[5]


def test_a_slice_is_of_the_same_kind_and_holds_the_same_modules():
    chain = nn.Sequential(*layers(2, 2, 2))
    part = chain[1:]
    assert isinstance(part, nn.Sequential)
    assert part[0] is chain[1]
    x = tg.tensor([[1.0, 2.0]])
    np.testing.assert_array_equal(part(chain[0](x)).data, chain(x).data)
    assert isinstance(nn.ModuleList(layers(1, 2))[:1], nn.ModuleList)


def test_a_chain_of_named_modules():
    chain = nn.Sequential(OrderedDict(up=nn.Linear(2, 3, bias=False), act=nn.ReLU()))
    assert names(chain) == ["up.weight"]
    assert chain.up is chain[0]
    chain[0] = nn.Linear(2, 5, bias=False)
    assert chain.up.out_features == 5
    assert chain(tg.tensor([1.0, 1.0])).shape == (5,)
    chain.append(nn.Linear(5, 1))
    assert list(dict(chain.named_children())) == ["up", "act", "2"]


def test_a_dict_of_modules():
    parts = nn.ModuleDict({"norm": nn.LayerNorm(2), "head": nn.Linear(2, 3)})
    assert list(parts) == list(parts.keys()) == ["norm", "head"]
    assert parts["norm"] is parts.norm
    assert [type(m).__name__ for m in parts.values()] == ["LayerNorm", "Linear"]
    assert dict(parts.items())["head"].out_features == 3
    assert ("head" in parts, "tail" in parts, len(parts)) == (True, False, 2)
    parts["head"] = nn.Linear(2, 7)
    parts.update({"tail": nn.Identity()})
    assert names(parts) == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    assert parts.pop("head").out_features == 7
    del parts["tail"]
    assert list(parts) == ["norm"]
    for missing in (lambda: parts["head"], lambda: parts.pop("head")):
        with pytest.raises(KeyError, match=r"no module 'head'; it has norm"):
            missing()
    with pytest.raises(KeyError, match="tail"):
        del parts["tail"]


def test_what_containers_refuse():
    with pytest.raises(ConfigError, match="expected a Module, got int"):
        nn.ModuleDict({"a": 3})
    with pytest.raises(ConfigError, match="'keys' is a method"):
        nn.ModuleDict({"keys": nn.Identity()})
    with pytest.raises(ConfigError, match="without dots"):
        nn.ModuleDict({"a.b": nn.Identity()})
    with pytest.raises(ConfigError, match="expected a Module"):
        nn.ModuleList([nn.Identity()]).insert(0, None)


def test_a_chain_within_a_chain_is_named_once_in_a_trace():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)))
    with tg.trace() as t:
        model(np.ones((1, 2), np.float32))
    assert [op.scope for op in t.ops if op.name == "linear"] == ["0", "1.0", "1.1"]
