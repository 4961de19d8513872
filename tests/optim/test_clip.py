"""clip_grad_norm: the norm, the scaling, every form of source."""

import numpy as np
import pytest

from tinygrad_llm import nn
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.errors import ConfigError, GradientError, NumericsError
from tinygrad_llm.optim import SGD, AdamW, blocks, clip_grad_norm


def with_gradients(rng, dtype="float32"):
    layer = nn.FeedForward(3).to(dtype)
    for p in layer.parameters():
        p.grad = rng.normal(size=p.shape).astype(p.dtype)
    return layer


def norm_of(layer):
    grads = [p.grad.astype(np.float64) for p in layer.parameters() if p.grad is not None]
    return np.sqrt(sum((g * g).sum() for g in grads))


@pytest.mark.parametrize("source", ["module", "parameters", "optimizer", "optimizer, in half"])
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_norm_and_scaling(rng, monkeypatch, source, max_norm):
    monkeypatch.setattr(blocks, "CPU_BLOCK", 7)
    half = source.endswith("half")
    layer = with_gradients(rng, "bfloat16" if half else "float32")
    before, norm = [p.grad.astype(float) for p in layer.parameters()], norm_of(layer)
    optimizer = AdamW(layer)
    given = {"module": layer, "parameters": list(layer.parameters())}.get(source, optimizer)
    assert clip_grad_norm(given, max_norm) == pytest.approx(norm, rel=1e-5)
    scale = min(1, max_norm / norm)
    for p, g in zip(layer.parameters(), before, strict=True):
        np.testing.assert_allclose(p.grad.astype(float), g * scale, rtol=1e-2 if half else 1e-5)
    if max_norm < norm:
        assert norm_of(layer) == pytest.approx(max_norm, rel=1e-2 if half else 1e-5)


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((1, 3, 2)), 0.0, [[1.0] * 3] * 2])
def test_an_assigned_gradient_has_the_parameters_shape(wrong):
    layer = nn.Linear(3, 2)
    optimizer = AdamW(layer)
    before = layer.weight.numpy().copy()
    for use in (optimizer.step, lambda: clip_grad_norm(layer, 1.0), optimizer.gradients):
        layer.weight.grad = wrong
        with pytest.raises(GradientError, match=r"gradient of parameter 'weight' .*\(2, 3\)"):
            use()
    np.testing.assert_array_equal(layer.weight.numpy(), before)


def test_a_tensor_may_be_assigned_as_a_gradient():
    layer = nn.Linear(3, 2)
    layer.weight.grad = Tensor(np.full((2, 3), 2.0, np.float32))
    assert clip_grad_norm(layer, 1.0) == pytest.approx(24**0.5)
    optimizer = SGD(layer, lr=1.0)
    before = layer.weight.numpy().copy()
    optimizer.step()
    np.testing.assert_allclose(before - layer.weight.numpy(), 6**-0.5, rtol=1e-5)


@pytest.mark.parametrize("excess", [0.999, 1.001, 1.05, 1.2])
def test_the_limit_is_the_limit(rng, excess):
    layer = with_gradients(rng)
    before = [p.grad.copy() for p in layer.parameters()]
    limit = norm_of(layer) / excess
    clip_grad_norm(layer, limit)
    for p, g in zip(layer.parameters(), before, strict=True):
        if excess < 1:
            np.testing.assert_array_equal(p.grad, g)
        else:
            np.testing.assert_allclose(p.grad, g / excess, rtol=1e-5)


def test_parameters_without_gradient_do_not_count(rng):
    layer = with_gradients(rng)
    layer.expand.weight.grad = None
    assert clip_grad_norm(AdamW(layer), 1.0) == pytest.approx(clip_norm_before(layer), rel=1e-5)
    assert layer.expand.weight.grad is None
    layer.zero_grad()
    assert clip_grad_norm(layer, 1.0) == 0.0


def clip_norm_before(layer):
    rng = np.random.default_rng(0)
    shapes = [p.shape for p in layer.parameters()]
    grads = [rng.normal(size=s).astype(np.float32) for s in shapes][1:]
    return np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads))


def test_large_and_infinite_gradients(rng):
    layer = with_gradients(rng)
    layer.expand.bias.grad[0] = 1e18
    assert clip_grad_norm(layer, 1.0) == pytest.approx(1e18, rel=1e-5)
    layer.expand.bias.grad[0] = np.nan
    with pytest.raises(NumericsError, match="nan.*detect_anomaly"):
        clip_grad_norm(layer, 1.0, error_if_nonfinite=True)
    before = layer.project.bias.grad.copy()
    assert np.isnan(clip_grad_norm(layer, 1.0))
    np.testing.assert_array_equal(layer.project.bias.grad, before)


def test_a_nan_is_gone_with_the_next_gradient(rng):
    """Nothing of a spoiled step stays in the flat buffer, not between the parameters either."""
    layer = with_gradients(rng)
    optimizer = AdamW(layer.parameters())
    for p in layer.parameters():
        p.grad = np.full(p.shape, np.nan, p.dtype)
    assert np.isnan(clip_grad_norm(optimizer, 1.0))
    optimizer.zero_grad()
    for p in layer.parameters():
        p.grad = np.ones(p.shape, p.dtype)
    assert np.isfinite(clip_grad_norm(optimizer, 1.0))


def test_a_limit_must_be_positive(rng):
    with pytest.raises(ConfigError, match="max_norm"):
        clip_grad_norm(with_gradients(rng), 0)
    assert clip_grad_norm(with_gradients(rng), float("inf")) > 0


def test_clipping_under_pytorchs_name():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.grad = np.full((2, 2), 2.0, np.float32)
    assert nn.utils.clip_grad_norm_(layer.parameters(), 1.0) == pytest.approx(4)
    np.testing.assert_allclose(layer.weight.grad, np.full((2, 2), 0.5), rtol=1e-5)
    with pytest.raises(ConfigError, match="norm_type must be 2"):
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0, norm_type=1)


def test_a_norm_whose_square_float32_cannot_hold():
    p = nn.Parameter(np.zeros(4, np.float32))
    p.grad = np.array([3e20, 4e20, 0.0, 0.0], np.float32)
    assert clip_grad_norm([p], 1.0) == pytest.approx(5e20)
    np.testing.assert_allclose(p.grad, [0.6, 0.8, 0.0, 0.0], rtol=1e-6)
