"""Numbers at the edges: far out, at 0, infinite, NaN."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tests.stand_in_gpu import stand_in_gpu
from tinygrad_llm import functional as F

INF, NAN = np.inf, np.nan


def leaf(values, dtype="float32", device="cpu"):
    return tg.tensor(np.asarray(values), dtype=dtype, device=device, requires_grad=True)


def gradient(f, values, dy=None, dtype="float32"):
    x = leaf(values, dtype)
    y = f(x)
    y.backward(np.broadcast_to(1.0 if dy is None else dy, y.shape))
    return x.grad


# ---- sigmoid ----------------------------------------------------------------------------------


def exact_sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


@given(st.floats(-700, 700))
def test_sigmoid_is_precise_wherever_its_type_can_tell_it_from_zero(x):
    want = exact_sigmoid(x)
    np.testing.assert_allclose(tg.tensor(x, "float64").sigmoid().item(), want, rtol=1e-14)
    narrow = float(np.float32(x))
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    got = tg.tensor(narrow).sigmoid().item()
    np.testing.assert_allclose(got, exact_sigmoid(narrow), rtol=1e-6, atol=2 * tiny)


@given(st.floats(-80, 80))
def test_the_logarithm_of_a_sigmoid_and_its_gradient(x):
    x = float(np.float32(x))
    y = leaf(x)
    out = y.sigmoid().log()
    out.backward()
    want = -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))
    np.testing.assert_allclose(out.item(), want, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(y.grad, exact_sigmoid(-x), rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sigmoid_of_16_bits_is_the_rounded_one(dtype):
    x = tg.tensor(np.linspace(-12, 12, 97), dtype)
    want = tg.tensor([exact_sigmoid(v) for v in x.numpy().astype(float)], dtype)
    np.testing.assert_allclose(
        x.sigmoid().numpy().astype(float), want.numpy().astype(float), rtol=2**-7, atol=6e-8
    )


def test_sigmoid_at_the_ends():
    y = tg.tensor([-INF, INF, NAN, -1e30, 1e30]).sigmoid().numpy()
    np.testing.assert_array_equal(y, [0, 1, NAN, 0, 1])


# ---- powers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exponent", "want"),
    [
        (0, [0, 0, 0]),
        (1, [1, 1, 1]),
        (2, [-4, 0, 4]),
        (3, [12, 0, 12]),
        (4, [-32, 0, 32]),
        (0.0, [0, 0, 0]),
        (2.0, [-4, 0, 4]),
    ],
)
def test_whole_powers_at_zero_and_of_negative_bases(exponent, want):
    np.testing.assert_allclose(gradient(lambda x: x**exponent, [-2, 0, 2]), want)
    as_tensor = tg.tensor([float(exponent)] * 3)
    np.testing.assert_allclose(gradient(lambda x: x**as_tensor, [-2, 0, 2]), want)


def test_an_exponent_over_the_base_zero():
    got = gradient(lambda b: tg.tensor([0.0, 0.0, 2.0]) ** b, [2, 0, 2])
    np.testing.assert_allclose(got, [0, 0, 4 * math.log(2)], rtol=1e-6)
    np.testing.assert_array_equal(gradient(lambda b: 0**b, [1, 0, 2]), [0, 0, 0])
    with np.errstate(invalid="ignore"):
        assert np.isnan(gradient(lambda b: (-2.0) ** b, [2.0])).all()
    np.testing.assert_array_equal((tg.tensor([0.0]) ** tg.tensor([0.0])).numpy(), [1])


def test_the_exponents_gradient_has_the_precision_of_the_result():
    base, exponent = tg.tensor([1.7], dtype="float32"), tg.tensor([0.3], dtype="float64")
    exponent.requires_grad = True
    (base**exponent).backward(np.ones(1))
    a = float(base.data[0])
    assert exponent.grad[0] == pytest.approx(a**0.3 * math.log(a), rel=1e-14)


def test_quotients_whose_divisor_cannot_be_squared():
    b = leaf([1e-30, 1e30, -1e25])
    (tg.tensor([1e-30, 1e30, 0.0]) / b).backward(np.ones(3))
    np.testing.assert_allclose(b.grad, [-1e30, -1e-30, 0], rtol=1e-6)


def test_the_remainder_and_its_gradient_round_alike():
    a = tg.tensor(np.arange(1, 50) * np.float32(0.1))
    b = leaf(np.full(49, 0.1))
    y = a % b
    y.backward(np.ones(49))
    np.testing.assert_array_equal(b.grad, -(a.data // b.data))
    infinite = leaf([INF, -INF])
    (tg.tensor([-1.0, 1.0]) % infinite).backward(np.ones(2))
    np.testing.assert_array_equal(infinite.grad, [1, 1])


def test_the_first_power_is_a_copy():
    x = tg.tensor([1.0, 2.0])
    assert not np.shares_memory((x**1).data, x.data)


# ---- variance ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "correction"), [(1, 1), (2, 2), (1, 3), (0, 1)])
def test_there_is_no_variance_of_too_few_elements(n, correction):
    x = leaf(np.ones((1, n)))
    y = x.var(axis=1, correction=correction)
    y.backward(np.ones(1))
    assert np.isnan(y.detach().numpy()).all()
    assert np.isnan(x.grad).all()


@given(st.integers(0, 3), st.integers(4, 9), st.floats(-1e5, 1e5))
def test_variance_with_any_correction_far_from_zero(correction, n, center):
    x = (np.random.default_rng(n).normal(size=n) + center).astype(np.float32)
    want = x.astype(float).var(ddof=correction)
    got = tg.tensor(x).var(correction=correction).item()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-9)


# ---- zeros that are written, not multiplied -----------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x", "dy", "want"),
    [
        (lambda x: x.relu(), [-1, 0, 2], [INF, NAN, INF], [0, 0, INF]),
        (lambda x: x.clip(-1, 1), [-2, 0, 2], [INF, 3, NAN], [0, 3, 0]),
        (lambda x: x.max(axis=0), [1, 3, 2], INF, [0, INF, 0]),
        (lambda x: x.min(axis=0), [1, 3, 2], INF, [INF, 0, 0]),
        (lambda x: x.max(axis=0), [1, NAN, 2], 5, [0, 5, 0]),
        (lambda x: x.relu(), [-1, NAN, 2], 5, [0, 5, 5]),
        (lambda x: x.maximum(1.0), [0, NAN, 2], INF, [0, INF, INF]),
        (lambda x: x.minimum(1.0), [0, NAN, 2], INF, [INF, INF, 0]),
        (
            lambda x: F.where(np.array([True, False, True]), x, 0.0),
            [1, 2, 3],
            [INF] * 3,
            [INF, 0, INF],
        ),
        (
            lambda x: x.masked_fill(np.array([True, False, True]), 0),
            [1, 2, 3],
            [INF] * 3,
            [0, INF, 0],
        ),
    ],
    ids=[
        "relu",
        "clip",
        "max",
        "min",
        "max of NaN",
        "relu of NaN",
        "maximum",
        "minimum",
        "where",
        "masked_fill",
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, for the NaN in bfloat16
def test_without_influence_the_gradient_is_zero_even_of_an_infinite_one(f, x, dy, want, dtype):
    got = gradient(f, x, dy, dtype)
    assert got.dtype == tg.tensor([0.0], dtype).dtype
    np.testing.assert_array_equal(got.astype(float), want)


# ---- layer_norm, the error function ------------------------------------------------------------


@given(st.sampled_from([1, 2, 7, 64, 768]), st.floats(-1e6, 1e6))
def test_layer_norm_of_a_constant_row_is_zero(width, value):
    rows = np.stack([np.full(width, value), np.arange(width)])
    y = F.layer_norm(tg.tensor(rows.astype(np.float32))).numpy()
    assert np.abs(y[0]).max() < 1e-3
    alone = F.layer_norm(tg.tensor(rows[1:].astype(np.float32))).numpy()
    np.testing.assert_allclose(y[1:], alone, atol=1e-6)  # a row does not depend on its neighbours


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_layer_norm_far_from_zero(device, monkeypatch):
    x = (np.random.default_rng(0).normal(size=(5, 768)) + 1e4).astype(np.float32)
    wide = x.astype(float)
    want = wide - wide.mean(axis=1, keepdims=True)
    want /= np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    with stand_in_gpu(monkeypatch), tg.use_kernels("off"):
        got = F.layer_norm(tg.tensor(x, device=device)).data
        got = got.host if device == "cuda" else got
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_error_function_of_float16_reaches_one():
    x = tg.tensor([-10.0, -4.0, 0.0, 4.0, 10.0], "float16")
    np.testing.assert_array_equal(
        tg.autograd.REGISTRY["erf"].function.apply(x).numpy(), [-1, -1, 0, 1, 1]
    )
