"""Functions that a module calls on its way."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError


def test_hooks_see_and_change_and_can_be_removed():
    net = nn.Linear(2, 2)
    seen = []
    removers = [
        net.register_forward_pre_hook(lambda m, args: (seen.append("pre"), None)[1]),
        net.register_forward_hook(lambda m, args, out: out * 2),
        net.register_backward_hook(lambda m, dy: seen.append(dy.copy())),
    ]
    x = tg.tensor([[1.0, 2.0]], requires_grad=True)
    y = net(x)
    plain = x.data @ net.weight.data.T + net.bias.data
    np.testing.assert_allclose(y.data, 2 * plain, rtol=1e-6)
    y.sum().backward()
    assert seen[0] == "pre"
    np.testing.assert_array_equal(seen[1], np.ones((1, 2)))
    removers[0]()
    for remover in removers:  # once is enough, twice does no harm
        remover.remove()
    np.testing.assert_allclose(net(x).data, plain, rtol=1e-6)
    assert len(seen) == 2


def test_backward_hook_may_replace_the_gradient():
    net = nn.Linear(2, 2)
    net.register_backward_hook(lambda m, dy: dy * 3)
    net(tg.tensor([[1.0, 2.0]])).sum().backward()
    np.testing.assert_array_equal(net.bias.grad, [3.0, 3.0])


@pytest.mark.parametrize("kind", ["forward_pre", "forward", "backward"])
def test_a_hook_must_be_callable(kind):
    register = getattr(nn.Linear(2, 2), f"register_{kind}_hook")
    with pytest.raises(ConfigError, match=f"register_{kind}_hook: expected a function, got int"):
        register(3)
