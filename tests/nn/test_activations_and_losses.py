"""Activations and losses as modules, and the functions behind them: values known by hand."""

import math

import numpy as np
import pytest

import tinygrad_llm as tg
import tinygrad_llm.nn.functional as F
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, IndexRangeError, LeftOutError, ShapeError

X = np.array([[-2.0, -0.5, 0.0, 1.0], [3.0, 0.25, -4.0, 2.0]])


def normal_cdf(x):
    return np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


CASES = [
    (nn.ReLU(), np.maximum(X, 0)),
    (nn.GELU(), X * normal_cdf(X)),
    (nn.GELU("tanh"), 0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))),
    (nn.SiLU(inplace=True), X / (1 + np.exp(-X))),
    (nn.Tanh(), np.tanh(X)),
    (nn.Sigmoid(), 1 / (1 + np.exp(-X))),
    (nn.Softmax(dim=-1), np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
    (nn.Softmax(0), np.exp(X) / np.exp(X).sum(0)),
    (nn.LogSoftmax(dim=1), X - np.log(np.exp(X).sum(1, keepdims=True))),
    (nn.Identity(4, bias=False), X),
]


@pytest.mark.parametrize(("module", "expected"), CASES, ids=lambda c: getattr(c, "_label", None))
def test_activations(module, expected):
    np.testing.assert_allclose(module(tg.tensor(X)).numpy(), expected, rtol=1e-12, atol=1e-14)
    assert list(module.parameters()) == []


def test_an_axis_has_one_name_at_a_time():
    with pytest.raises(ConfigError, match="Softmax: dim= is another name of axis="):
        nn.Softmax(axis=0, dim=0)


def test_silu_neither_overflows_nor_loses_its_tail():
    x = tg.tensor([-1e4, -90.0, 90.0, 1e4], requires_grad=True)
    y = F.silu(x)
    np.testing.assert_allclose(y.numpy(), [0, -90 * math.exp(-90), 90, 1e4], rtol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(x.grad, [0, -89 * math.exp(-90), 1, 1], rtol=1e-6)


def test_cross_entropy_loss_and_its_settings():
    logits = tg.tensor(np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]), requires_grad=True)
    loss = nn.CrossEntropyLoss()
    assert loss(logits, [0, 1]).item() == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    assert nn.CrossEntropyLoss(ignore_index=1)(logits, [0, 1]).item() == pytest.approx(math.log(2))
    rows = nn.CrossEntropyLoss(reduction="none")(logits, [0, 1]).numpy()
    np.testing.assert_allclose(rows, [math.log(2), -math.log(0.8)])
    assert nn.CrossEntropyLoss(reduction="sum")(logits, [0, 1]).item() == pytest.approx(rows.sum())


def test_smoothed_targets_are_a_mixture_with_the_even_distribution():
    p = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    logits = tg.tensor(np.log(p), requires_grad=True)
    q = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])  # 0.7 of the target, 0.3 over all three
    loss = F.cross_entropy(logits, [0, 1], label_smoothing=0.3)
    assert loss.item() == pytest.approx(-(q * np.log(p)).sum() / 2)
    loss.backward()
    np.testing.assert_allclose(logits.grad, (p - q) / 2, atol=1e-15)
    ignored = F.cross_entropy(logits, [0, -100], label_smoothing=0.3)
    assert ignored.item() == pytest.approx(-(q[0] * np.log(p[0])).sum())
    with pytest.raises(ConfigError, match="label_smoothing must be in 0 .. 1, got 2"):
        F.cross_entropy(logits, [0, 1], label_smoothing=2)


def test_weights_of_classes_are_refused_and_written_out():
    p = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    logits, targets, weight = tg.tensor(np.log(p)), tg.tensor([0, 1]), tg.tensor([1.0, 3.0, 1.0])
    for refused in (
        lambda: F.cross_entropy(logits, targets, weight=weight),
        lambda: F.cross_entropy(logits, targets, weight),
        lambda: nn.CrossEntropyLoss(weight)(logits, targets),
    ):
        with pytest.raises(ConfigError, match=r"w = weight\[targets\]"):
            refused()
    w = weight[targets]
    loss = (F.cross_entropy(logits, targets, reduction="none") * w).sum() / w.sum()
    assert loss.item() == pytest.approx(-(math.log(0.5) + 3 * math.log(0.8)) / 4)


def test_mean_squared_error():
    x = tg.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    target = tg.tensor([[0.0, 2.0], [1.0, 1.0]], requires_grad=True)
    loss = nn.MSELoss()(x, target)
    assert loss.item() == (1 + 0 + 4 + 16) / 4
    loss.backward()
    np.testing.assert_array_equal(x.grad, [[0.5, 0], [1, 2]])
    np.testing.assert_array_equal(target.grad, [[-0.5, 0], [-1, -2]])
    assert F.mse_loss(x, target, reduction="sum").item() == 21
    np.testing.assert_array_equal(F.mse_loss(x, target, "none").numpy(), [[1, 0], [4, 16]])
    assert F.mse_loss(x, [[0, 2], [1, 1]]).item() == 21 / 4


def test_mean_squared_error_refuses_what_would_be_broadcast():
    with pytest.raises(ShapeError, match=r"shape \(3, 1\), got \(3,\)"):
        F.mse_loss(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ConfigError, match="reduction"):
        F.mse_loss(np.zeros(3), np.zeros(3), reduction="max")


def test_mean_squared_error_of_half_precision_is_summed_in_float32():
    x = tg.tensor(np.full(5000, 2.0), dtype="float16", requires_grad=True)
    loss = F.mse_loss(x, np.zeros(5000, np.float16))
    assert loss.dtype == np.float16
    assert loss.item() == 4
    loss.backward()
    assert x.grad.dtype == np.float16


def test_one_hot():
    np.testing.assert_array_equal(F.one_hot([2, 0]).numpy(), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(F.one_hot(tg.tensor([[1]]), 2).numpy(), [[[0, 1]]])
    assert F.one_hot([2, 0], num_classes=5).shape == (2, 5)
    assert F.one_hot([1]).dtype == np.int64
    assert F.one_hot(np.zeros((0,), np.int64), 3).shape == (0, 3)
    with pytest.raises(IndexRangeError, match="id 3"):
        F.one_hot([3], num_classes=3)
    with pytest.raises(IndexRangeError, match="id -1"):
        F.one_hot([-1, 2])
    with pytest.raises(ShapeError, match="num_classes"):
        F.one_hot(np.zeros((0,), np.int64))


def test_the_functions_have_two_homes():
    assert nn.functional is F
    for name in tg.functional.__all__:
        assert getattr(F, name) is getattr(tg.functional, name)
    written = {
        name
        for name, value in vars(tg.functional).items()
        if getattr(value, "__module__", "").startswith("tinygrad_llm.functional.")
    }
    assert written == set(tg.functional.__all__)


@pytest.mark.parametrize(
    ("where", "name", "instead"),
    [
        (nn, "RMSNorm", "nn.LayerNorm"),
        (nn, "MultiheadAttention", "nn.MultiHeadAttention"),
        (nn.utils, "clip_grad_value_", "clip_grad_norm_"),
        (nn.init, "trunc_normal_", "normal_"),
        (F, "binary_cross_entropy", "log"),
        (F, "nll_loss", "cross_entropy"),
    ],
)
def test_what_is_left_out_names_our_way(where, name, instead):
    assert not hasattr(where, name)
    with pytest.raises(LeftOutError, match=instead):
        getattr(where, name)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(AttributeError, match=r"Did you mean tg.nn.Linear\?"):
        nn.Liner
    with pytest.raises(AttributeError, match=r"Did you mean tg.functional.softmax\?"):
        F.sofmax


def test_a_shape_in_front_of_the_weight_is_refused():
    weight, bias = tg.tensor(np.ones(4)), tg.tensor(np.zeros(4))
    for arguments in [((4,),), (4, weight), ((4,), weight, bias), ([4], weight, bias, 1e-5)]:
        with pytest.raises(ConfigError, match="leave their shape out"):
            F.layer_norm(X, *arguments)
