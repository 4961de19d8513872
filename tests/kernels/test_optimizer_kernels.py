"""AdamW over a flat buffer, the gradient norm and the clip factor."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import kernel_references as reference
from tests.kernels.conftest import DTYPES
from tinygrad_llm import kernels

SETTINGS = {"betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


def _state(device, n, dtype="float32"):
    return (
        device.normal((n,)),
        device.normal((n,), dtype),
        device.normal((n,)) * 0.1,
        np.abs(device.normal((n,))) * 0.01,
    )


@pytest.mark.parametrize(("n", "step"), [(1, 1), (5003, 1), (5003, 7), (300, 100_000)])
def test_adamw(device, dtype, n, step):
    state = _state(device, n, dtype)
    moved = [device.put(a.copy()) for a in state]
    weights = None if dtype == "float32" else device.put(np.zeros(n, DTYPES[dtype]))
    kernels.adamw(*moved, lr=0.01, step=step, decay_end=n // 3, weights=weights, **SETTINGS)
    expected = reference.adamw(*state, 0.01, step, *SETTINGS.values(), np.arange(n) < n // 3)
    for actual, wanted in zip((moved[0], *moved[2:]), expected, strict=True):
        device.check(actual, wanted, "float32")
    if weights is not None:
        wanted = device.get(moved[0]).astype(DTYPES[dtype])
        np.testing.assert_array_equal(device.get(weights), wanted)


def test_adamw_reads_rate_step_and_clip_from_device_memory(device):
    state = _state(device, 999)
    moved = [device.put(a.copy()) for a in state]
    mask = (np.arange(999) % 3 == 0).astype(np.uint8)
    on_device = {
        "lr": np.array([0.02], np.float32),
        "step": np.array([3], np.int32),
        "clip": np.array([0.5], np.float32),
    }
    kernels.adamw(
        *moved,
        decay_mask=device.put(mask),
        **SETTINGS,
        **{name: device.put(value) for name, value in on_device.items()},
    )
    state = state[0], state[1] * 0.5, *state[2:]
    expected = reference.adamw(*state, 0.02, 3, *SETTINGS.values(), mask)
    device.check(moved[0], expected[0], "float32")
    device.check(moved[3], expected[2], "float32")


@pytest.mark.parametrize("clip", [0.0, np.nan])
def test_a_step_whose_gradient_is_not_finite_is_left_out(device, clip):
    state = _state(device, 300)
    moved = [device.put(a.copy()) for a in state]
    factor = device.put(np.array([clip], np.float32))
    kernels.adamw(*moved, lr=0.1, step=1, clip=factor, **SETTINGS)
    for before, after in zip(state, moved, strict=True):
        np.testing.assert_array_equal(device.get(after), before)


def test_first_step_moves_by_the_learning_rate(device):
    """The bias corrections cancel exactly at step 1: |update| = lr where eps is small."""
    p, g, m, v = np.zeros(64, np.float32), device.normal((64,)), *np.zeros((2, 64), np.float32)
    p, g, m, v = map(device.put, (p, g, m, v))
    kernels.adamw(p, g, m, v, lr=0.1, step=1, weight_decay=0.0, eps=1e-12)
    np.testing.assert_allclose(np.abs(device.get(p)), 0.1, rtol=1e-6)


@pytest.mark.parametrize(("n", "max_norm"), [(1, 1.0), (70_001, 1.0), (70_001, 1e4)])
def test_norm_and_factor(device, dtype, n, max_norm):
    g = device.normal((n,), dtype)
    norm = np.linalg.norm(g.astype(np.float64))
    got = kernels.clip_factor(device.put(g), max_norm)
    device.check(got, np.array([norm, min(1.0, max_norm / (norm + 1e-6))]), "float32")


def test_a_tiny_norm_is_clipped_as_pytorch_does(device):
    g = np.full(4, 5e-4, np.float32)  # norm 1e-3, beside which the 1e-6 counts
    got = kernels.clip_factor(device.put(g), 5e-4)
    device.check(got, np.array([1e-3, 5e-4 / (1e-3 + 1e-6)]), "float32")


def test_norm_over_a_list_of_arrays(device):
    arrays = [
        device.normal((3, 5)),
        device.normal((4001,), "bfloat16"),
        np.empty((0, 2), np.float32),
        device.normal((7, 2)).T,
    ]
    total = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
    device.check(kernels.grad_norm([device.put(a) for a in arrays]), np.array(total), "float32")


def test_nan_and_infinity_reach_the_norm(device):
    for bad in (np.nan, np.inf):
        g = device.normal((5000,))
        g[4321] = bad
        norm, factor = device.get(kernels.clip_factor(device.put(g), 1.0))
        np.testing.assert_equal(norm, bad)
        np.testing.assert_equal(factor, np.nan if np.isnan(bad) else 0.0)


def test_scale_in_place(device, dtype):
    g = device.normal((5001,), dtype)
    for factor in (0.5, device.put(np.array([0.5], np.float32))):
        moved = device.put(g.copy())
        assert kernels.scale_in_place(moved, factor) is moved
        device.check(moved, g.astype(np.float64) * 0.5, dtype)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameters": np.ones(4, np.float16)}, "keep a float32 master copy"),
        ({"parameters": np.ones((2, 2), np.float32)}, "must be a flat array"),
        ({"gradients": np.ones(5, np.float32)}, "gradients must have shape"),
        ({"step": 0}, "step counts from 1"),
        ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\)"),
    ],
)
def test_adamw_refusals(change, words):
    arguments = {
        "parameters": np.ones(4, np.float32),
        "gradients": np.ones(4, np.float32),
        "m": np.ones(4, np.float32),
        "v": np.ones(4, np.float32),
        "lr": 0.1,
        "step": 1,
    }
    with pytest.raises(kernels.KernelError, match="adamw: .*" + words):
        kernels.adamw(**{**arguments, **change})


def test_norm_of_nothing_is_refused():
    with pytest.raises(kernels.KernelError, match="gradients is empty"):
        kernels.grad_norm([])


def test_a_gradient_whose_square_is_too_large_does_not_freeze_its_element(device):
    p, m, v = (device.put(np.zeros(6, np.float32)) for _ in range(3))
    large = np.array([1e25, -1e25, 1.0, np.inf, -np.inf, np.nan], np.float32)
    kernels.adamw(p, device.put(large), m, v, lr=0.1, step=1, weight_decay=0.0)
    np.testing.assert_allclose(device.get(p)[:3], [-0.1, 0.1, -0.1], rtol=1e-5)
    assert np.isfinite(device.get(v)[:3]).all()
    assert not np.isfinite(device.get(p)[3:]).any()
