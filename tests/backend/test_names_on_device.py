"""Short names, methods and in-place operators on a GPU's arrays: what is no op itself."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.stand_in_gpu import stand_in_gpu
from tinygrad_llm import backend

X = np.random.default_rng(0).permutation(24).reshape(2, 3, 4) / 7.0 - 1.6

CALLS = {
    "sort": lambda x: x.sort(dim=1, descending=True),
    "argsort": lambda x: x.argsort(),
    "topk": lambda x: x.topk(2),
    "max": lambda x: x.max(dim=-1),
    "argmin": lambda x: x.argmin(axis=1),
    "gather": lambda x: x.gather(2, x.argsort()),
    "gather by ids of the host": lambda x: x.gather(1, np.zeros((2, 1, 4), int)),
    "scatter": lambda x: x.scatter(2, x.argmax(axis=2, keepdims=True), -1.0),
    "index_select": lambda x: x.index_select(1, [2, 0]),
    "tril": lambda x: x.tril(-1),
    "triu": lambda x: x.triu(1),
    "bits": lambda x: ((x > 0) & ~(x > 1)) | (x < -1) ^ (x < -2),
    "all": lambda x: ((x > -1).all(dim=1), (x > 1).any()),
    "nonzero": lambda x: (x > 0).nonzero(),
    "steps": lambda x: (x.floor(), x.ceil(), x.round(), x.sign(), x.isnan(), x.isfinite()),
    "remainders": lambda x: (x // 0.5, x % 0.7, 2.0 % (x * x + 0.1)),
    "repeat": lambda x: x.repeat(2, 1, 2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "expand": lambda x: x[:, :1].expand(-1, 5, -1),
    "chunk": lambda x: x.chunk(2, dim=2),
    "view": lambda x: x.transpose(0, 1).contiguous().view(-1, 2),
    "conversions": lambda x: (x.float(), x.long(), x.bool(), x.half()),
    "std": lambda x: x.std(dim=1),
    "like": lambda x: (tg.zeros_like(x), tg.full_like(x, 3.0), tg.ones_like(x, dtype="int64")),
    "equal": lambda x: tg.tensor([x.equal(x), x.allclose(x + 1e-9), x.equal(x + 1.0)]),
    "einsum": lambda x: tg.einsum("bij,bkj->bik", x, x),
}


def parts(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.fixture(params=["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)], autouse=True)
def gpu(request, monkeypatch):
    if request.param == "cupy":
        backend.cuda_module()
        yield
    else:
        with stand_in_gpu(monkeypatch):
            yield


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_results_are_those_of_the_cpu(call):
    expected = parts(call(tg.tensor(X)))
    found = parts(call(tg.tensor(X, device="cuda")))
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy())


def test_in_place_operators_write_on_the_device():
    x = tg.tensor(X, device="cuda")
    memory = x.data
    x += 1
    x *= tg.tensor(2.0, device="cuda")
    x -= x / 4
    x.clamp_(0, 2).masked_fill_(x > 1, 0.5)
    x[0].zero_()
    assert x.data is memory
    expected = np.clip((X + 1) * 1.5, 0, 2)
    expected[expected > 1] = 0.5
    expected[0] = 0
    np.testing.assert_allclose(x.numpy(), expected)
    w = tg.tensor(X, device="cuda", requires_grad=True)
    y = w * 2.0
    y += w
    y.sum().backward()
    np.testing.assert_array_equal(backend.to_numpy(w.grad), np.full(X.shape, 3.0))
    with pytest.raises(tg.errors.GraphError, match="one place in memory"):
        tg.ones(1, device="cuda").expand(3).add_(1)


def test_made_on_the_device_from_the_same_seed():
    makers = [
        lambda **d: tg.zeros(2, 3, **d),
        lambda **d: tg.arange(5, **d),
        lambda **d: tg.eye(3, **d),
        lambda **d: tg.linspace(0, 1, 4, **d),
        lambda **d: tg.full((2,), True, **d),
        lambda **d: tg.randn(4, **d),
        lambda **d: tg.rand(4, **d),
        lambda **d: tg.randperm(5, **d),
        lambda **d: tg.randint(0, 9, (4,), **d),
        lambda **d: tg.zeros(3, **d).normal_(),
        lambda **d: tg.ones(3, 4, **d).multinomial(2),
    ]
    for make in makers:
        tg.manual_seed(1)
        here = make()
        tg.manual_seed(1)
        there = make(device="cuda")
        assert there.device != "cpu"
        np.testing.assert_array_equal(here.numpy(), there.numpy())
