"""The optimizer kernels against the array code, in Triton's interpreter; on a GPU where one is."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.optim import SGD, AdamW, clip_grad_norm, decay_groups

pytest.importorskip("triton")


def train(mode, dtype, device="cpu"):
    """Weights, moments and norms after three clipped steps."""
    tg.manual_seed(0)
    layer = nn.FeedForward(5).to(dtype).to(device)
    optimizer = AdamW(decay_groups(layer, 0.1), lr=0.01)
    norms = []
    with tg.use_kernels(mode):
        for step in range(3):
            for p in layer.parameters():
                values = np.random.default_rng(step).normal(size=p.shape)
                p.grad = nn.Parameter(values.astype(np.float32)).to(dtype).to(device).data
            norms.append(float(clip_grad_norm(optimizer, 3.0)))
            optimizer.step()
            optimizer.zero_grad()
    arrays = {k: tg.tensor(a).numpy() for k, a in optimizer.state_dict()["arrays"].items()}
    weights = {k: t.numpy() for k, t in layer.state_dict().items()}
    return {**arrays, **weights, "norms": np.array(norms)}


def compare(a, b, dtype):
    assert a.keys() == b.keys()
    tolerance = 1e-2 if dtype == "bfloat16" else 1e-5
    for name in a:
        x, y = a[name].astype(np.float64), b[name].astype(np.float64)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=1e-3 * tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_equal_array_code(dtype):
    compare(train("off", dtype), train("force", dtype), dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_equal_array_code_on_a_gpu(dtype):
    compare(train("off", dtype), train("auto", dtype, "cuda"), dtype)


def test_the_decision_is_noted_and_a_refusal_says_why():
    layer = nn.Linear(2, 2).to("float64")
    optimizer = AdamW(layer)
    layer.weight.grad = np.ones((2, 2))
    with tg.use_kernels("force"), pytest.raises(tg.errors.KernelError, match="adamw.*float"):
        optimizer.step()
    assert "adamw" in tg.kernels.explain_dispatch()


def test_an_infinite_limit_only_measures():
    layer = nn.Linear(2, 2)
    optimizer = SGD(layer)
    layer.weight.grad = np.full((2, 2), 5.0, np.float32)
    with tg.use_kernels("force"):
        assert float(clip_grad_norm(optimizer, float("inf"))) == pytest.approx(10.0)
    np.testing.assert_array_equal(layer.weight.grad, 5.0)
