"""Initial values written into parameters that are there."""

import math

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, GraphError, ShapeError

MOMENTS = [
    (lambda t: nn.init.normal_(t, mean=0.5, std=0.02), 0.5, 0.02),
    (lambda t: nn.init.uniform_(t, 1.0, 3.0), 2.0, 2 / math.sqrt(12)),
    (nn.init.xavier_uniform_, 0.0, math.sqrt(2 / 500)),
    (lambda t: nn.init.xavier_normal_(t, gain=2.0), 0.0, 2 * math.sqrt(2 / 500)),
    (nn.init.kaiming_uniform_, 0.0, math.sqrt(2 / 300)),
    (lambda t: nn.init.kaiming_normal_(t, a=1.0), 0.0, math.sqrt(1 / 300)),
]


@pytest.mark.parametrize(("fill", "mean", "std"), MOMENTS)
def test_mean_and_deviation(fill, mean, std):
    layer = nn.Linear(300, 200)
    weight = layer.weight
    assert fill(weight) is weight
    assert weight.dtype == np.float32
    assert weight.requires_grad
    assert weight.is_leaf
    n = weight.size
    assert abs(weight.data.mean() - mean) < 5 * std / math.sqrt(n)
    assert weight.data.std() == pytest.approx(std, rel=5 / math.sqrt(2 * n))
    once = weight.numpy().copy()
    fill(weight)
    assert not np.array_equal(weight.numpy(), once)


def test_uniform_numbers_keep_to_their_limits():
    weight = nn.init.uniform_(nn.Linear(100, 100).weight, -0.25, 0.75).numpy()
    assert weight.min() >= -0.25
    assert weight.max() <= 0.75
    assert np.abs(nn.init.xavier_uniform_(nn.Linear(2, 4).weight).numpy()).max() <= 1


def test_constants():
    layer = nn.Linear(3, 2).to("float64")
    assert (nn.init.zeros_(layer.bias).numpy() == 0).all()
    assert (nn.init.ones_(layer.weight).numpy() == 1).all()
    assert (nn.init.constant_(layer.weight, 0.25).numpy() == 0.25).all()
    assert layer.weight.dtype == np.float64


def test_one_seed_gives_one_model():
    a, b = (nn.init.normal_(nn.Linear(4, 4).weight, generator=tg.Generator(3)) for _ in range(2))
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_without_initial_values_nothing_is_written():
    layer = nn.Linear(2, 2)
    before = layer.weight.numpy().copy()
    with nn.init.no_init():
        nn.init.normal_(layer.weight)
    np.testing.assert_array_equal(layer.weight.numpy(), before)


def test_writing_between_forward_and_backward_is_noticed():
    layer = nn.Linear(2, 2)
    loss = layer(tg.tensor([[1.0, 2.0]], requires_grad=True)).sum()
    nn.init.zeros_(layer.weight)
    with pytest.raises(GraphError, match="overwritten"):
        loss.backward()


def test_vectors_have_no_out_and_in():
    with pytest.raises(ShapeError, match=r"expected weights \(out, in\), got shape \(2,\)"):
        nn.init.xavier_uniform_(nn.Linear(3, 2).bias)


def test_layer_norm_takes_a_shape_of_one_axis_and_may_have_no_parameters():
    x = tg.tensor([[1.0, 3.0]])
    assert nn.LayerNorm((2,)).weight.shape == (2,)
    plain = nn.LayerNorm([2], elementwise_affine=False)
    assert list(plain.parameters()) == []
    np.testing.assert_allclose(plain(x).numpy(), [[-1, 1]], rtol=1e-4)
    with pytest.raises(ConfigError, match="normalized_shape must be a positive integer"):
        nn.LayerNorm((2, 3))


def test_layers_are_made_of_the_type_that_they_are_told():
    for make in (
        lambda **k: nn.Linear(2, 3, **k),
        lambda **k: nn.Embedding(2, 3, **k),
        lambda **k: nn.LayerNorm(3, **k),
    ):
        layer = make(device="cpu", dtype="float64")
        assert {p.dtype.name for p in layer.parameters()} == {"float64"}
        assert {p.dtype.name for p in make().parameters()} == {"float32"}
        with pytest.raises(ConfigError, match="floating-point"):
            make(dtype="int64")


def test_a_standard_deviation_is_not_below_0():
    x = tg.ones(2)
    for fill in (nn.init.normal_, tg.Tensor.normal_):
        for std in (-1, float("nan")):
            with pytest.raises(ConfigError, match="normal: std must be at least 0"):
                fill(x, std=std)
        assert fill(x, mean=3.0, std=0).tolist() == [3, 3]
