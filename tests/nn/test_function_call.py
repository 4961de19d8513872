"""Functions in a Sequential: called, printed, copied, without a trace in state_dict."""

import copy
import pickle  # noqa: S403

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError

F = nn.functional


def test_an_mlp_with_functions_is_that_with_modules(rng):
    tg.manual_seed(0)
    with_functions = nn.Sequential(nn.Linear(2, 8), F.gelu, nn.Linear(8, 4), lambda x: x * 2)
    x = tg.tensor(rng.normal(size=(3, 2)), dtype="float32")
    first, second = with_functions[0], with_functions[2]
    np.testing.assert_array_equal(with_functions(x).data, (second(F.gelu(first(x))) * 2).data)
    with_functions(x).sum().backward()
    assert all(p.grad is not None for p in with_functions.parameters())
    assert list(with_functions.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert "1: FunctionCall  0  gelu" in str(with_functions)
    again = copy.deepcopy(with_functions)
    np.testing.assert_array_equal(again(x).data, with_functions(x).data)


def test_functions_with_a_name_are_pickled_and_put_in_later(rng):
    net = nn.Sequential({"in": nn.Linear(2, 2), "act": F.relu})
    net.append(F.tanh)
    net[1] = F.silu
    again = pickle.loads(pickle.dumps(net))  # noqa: S301
    x = tg.tensor(rng.normal(size=(3, 2)), dtype="float32")
    np.testing.assert_array_equal(again(x).data, F.tanh(F.silu(net[0](x))).data)
    assert [type(part).__name__ for part in net[1:]] == ["FunctionCall", "FunctionCall"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (nn.ReLU, r"got the class ReLU\. Write ReLU\(\.\.\.\)"),
        (nn.Linear(2, 2).forward, "parameters of Linear are not found"),
        (3, "expected a Module or a function, got int"),
        (None, "expected a Module or a function, got NoneType"),
    ],
)
def test_what_is_no_function_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        nn.Sequential(nn.Linear(2, 2), wrong)
