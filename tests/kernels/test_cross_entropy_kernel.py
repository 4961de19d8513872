from __future__ import annotations

import re

import numpy as np
import pytest

from tests.kernels import kernel_references as reference
from tests.kernels.conftest import DTYPES
from tinygrad_llm import kernels

SHAPES = [((1,), 1), ((3, 5), 31), ((7,), 1000), ((2,), 9001)]


def _draw(device, leading, v, dtype="float32"):
    targets = device.rng.integers(0, v, leading)
    if targets.size > 2:
        targets.flat[1] = -100
    return device.normal((*leading, v), dtype) * 3, targets


@pytest.mark.parametrize(("leading", "v"), SHAPES)
def test_forward_and_backward(device, dtype, leading, v):
    logits, targets = _draw(device, leading, v, dtype)
    dloss = device.normal((targets.size,))
    losses, dx = reference.cross_entropy(logits, targets)
    moved = device.put(logits), device.put(targets)
    got, lse = kernels.cross_entropy(*moved)
    device.check(got, losses, "float32", factor=5)
    expected = dx * dloss.reshape(*leading, 1)
    got = kernels.cross_entropy_backward(*moved, lse, device.put(dloss))
    device.check(got, expected, dtype, factor=2)


@pytest.mark.parametrize(("leading", "v"), SHAPES)
def test_gradient_in_place_of_the_logits(device, dtype, leading, v):
    logits, targets = _draw(device, leading, v, dtype)
    losses, dx = reference.cross_entropy(logits, targets)
    moved = device.put(logits.copy())
    scale = device.put(np.array([0.25], np.float32))
    got, dlogits = kernels.cross_entropy_with_gradient(moved, device.put(targets), scale)
    assert dlogits is moved
    device.check(got, losses, "float32", factor=5)
    device.check(dlogits, dx * 0.25, dtype, factor=2)


def test_gradient_into_another_array_leaves_the_logits(device):
    logits, targets = _draw(device, (5,), 300)
    moved, out = device.put(logits.copy()), device.put(np.empty_like(logits))
    _, dlogits = kernels.cross_entropy_with_gradient(moved, device.put(targets), 0.5, out=out)
    assert dlogits is out
    np.testing.assert_array_equal(device.get(moved), logits)
    device.check(out, reference.cross_entropy(logits, targets)[1] * 0.5, "float32")


def test_ignored_rows_give_zero_whatever_they_hold(device):
    logits, targets = _draw(device, (4,), 50)
    targets[:] = (3, 7, 3, 7)
    logits[1] = np.nan
    losses, dx = kernels.cross_entropy_with_gradient(
        device.put(logits), device.put(targets), 1.0, ignore_index=7
    )
    assert device.get(losses)[1] == 0
    assert not device.get(dx)[[1, 3]].any()
    assert device.get(dx)[[0, 2]].all()


def test_masked_logits_are_legal_and_get_no_gradient(device):
    logits, targets = np.zeros((2, 40), np.float32), np.array([1, 2])
    logits[:, 4:] = -np.inf
    losses, dx = kernels.cross_entropy_with_gradient(device.put(logits), device.put(targets))
    np.testing.assert_allclose(device.get(losses), np.log(4), rtol=1e-6)
    assert not device.get(dx)[:, 4:].any()
    np.testing.assert_allclose(device.get(dx)[0, :4], [0.25, -0.75, 0.25, 0.25], rtol=1e-6)


def test_a_leading_block_of_minus_infinity_does_not_poison_the_running_sum(device):
    logits, targets = device.normal((1, 9000)), np.array([8999])
    logits[0, :4500] = -np.inf  # more than the first block of the kernel
    losses, _ = kernels.cross_entropy(device.put(logits), device.put(targets))
    expected = np.log(np.exp(logits[0, 4500:].astype(np.float64)).sum()) - logits[0, -1]
    np.testing.assert_allclose(device.get(losses), [expected], rtol=1e-6)


def test_a_target_out_of_range_gives_nan_and_touches_no_other_memory(device):
    logits, targets = _draw(device, (3,), 20)
    targets[:] = (2, 20, -1)
    losses, dx = kernels.cross_entropy_with_gradient(device.put(logits), device.put(targets))
    np.testing.assert_array_equal(np.isnan(device.get(losses)), [False, True, True])
    np.testing.assert_array_equal(np.isnan(device.get(dx)).all(1), [False, True, True])


# The classes end within a block, at its end, and in a block before the padding's last column.
@pytest.mark.parametrize(
    ("classes", "width"),
    [(2, 16), (31, 64), (50, 50), (64, 128), (8190, 8256), (8192, 8200), (9001, 9024)],
)
def test_columns_beyond_the_classes_may_hold_anything_and_get_zeros(device, dtype, classes, width):
    logits, targets = _draw(device, (5,), classes, dtype)
    padded = np.full((5, width), np.nan, logits.dtype)
    padded[:, :classes] = logits
    padded[::2, classes:] = np.inf
    losses, dx = reference.cross_entropy(logits, targets)
    moved, where = device.put(padded.copy()), device.put(targets)
    got, lse = kernels.cross_entropy(moved, where, classes=classes)
    device.check(got, losses, "float32", factor=5)
    separate = kernels.cross_entropy_backward(
        moved, where, lse, device.put(np.ones(1, np.float32)), classes=classes
    )
    again, in_place = kernels.cross_entropy_with_gradient(moved, where, 1.0, classes=classes)
    np.testing.assert_array_equal(device.get(again), device.get(got))
    for gradient in (separate, in_place):
        device.check(gradient[:, :classes], dx, dtype, factor=2)
        assert not device.get(gradient)[:, classes:].any()


@pytest.mark.parametrize("classes", [50257, 50304])
def test_padded_rows_are_read_and_written_16_bytes_at_a_time(classes):
    logits, targets = np.zeros((2, 50304), DTYPES["bfloat16"]), np.zeros(2, np.int64)
    row = np.ones(2, np.float32)
    with kernels.compile_only(90) as compiled:
        kernels.cross_entropy(logits, targets, classes=classes)
        kernels.cross_entropy_with_gradient(logits, targets, row[:1], classes=classes)
        kernels.cross_entropy_backward(logits, targets, row, row, classes=classes)
    for kernel in compiled:
        ptx = kernel.asm["ptx"]
        narrow = re.findall(r"(?:ld|st)\.global\.(?:cs\.)?b16", ptx)
        assert len(narrow) == ("forward" in kernel.metadata.name)  # the logit of the target
        assert "ld.global.v4.b32" in ptx
        assert ("st.global.cs.v4.b32" in ptx) == (kernel is not compiled[0])


def test_a_target_among_the_padding_is_out_of_range(device):
    logits = device.normal((2, 64))
    losses, dx = kernels.cross_entropy_with_gradient(
        device.put(logits), device.put(np.array([49, 50])), classes=50
    )
    np.testing.assert_array_equal(np.isnan(device.get(losses)), [False, True])
    np.testing.assert_array_equal(np.isnan(device.get(dx)).any(1), [False, True])
    assert not device.get(dx)[:, 50:].any()


def test_empty(device):
    logits, targets = np.empty((0, 5), np.float32), np.empty(0, np.int64)
    losses, lse = kernels.cross_entropy(device.put(logits), device.put(targets))
    assert losses.shape == lse.shape == (0,)


def _linear_reference(x, weight, targets, bias):
    """(loss, dx, dweight, db) in float64; targets of -100 do not count."""
    v, c = weight.shape
    x64, w64, b64 = reference.double(x, weight, bias)
    losses, dlogits = reference.cross_entropy(x64 @ w64.T + (0 if b64 is None else b64), targets)
    counted = (targets != -100).sum()
    dlogits /= counted
    flat = dlogits.reshape(-1, v)
    return losses.sum() / counted, dlogits @ w64, flat.T @ x64.reshape(-1, c), flat.sum(0)


def _linear_case(device, dtype, v, with_bias):
    x, weight = device.normal((3, 5, 24), dtype), device.normal((v, 24), dtype)
    targets = device.rng.integers(0, v, (3, 5))
    targets[1, 2] = -100
    return x, weight, targets, device.normal((v,), dtype) if with_bias else None


def _check_loss(device, loss, expected, dtype):
    device.check(loss, np.array(expected), "float32", factor=3 if dtype == "float32" else 1000)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("chunk_rows", [None, 4])
def test_linear_cross_entropy(device, dtype, chunk_rows, with_bias):
    case = _linear_case(device, dtype, 61, with_bias)
    loss, *gradients = kernels.linear_cross_entropy(*map(device.put, case), chunk_rows=chunk_rows)
    wanted_loss, *wanted = _linear_reference(*case)
    _check_loss(device, loss, wanted_loss, dtype)
    for ours, exact in zip(gradients[: 2 + with_bias], wanted, strict=False):
        device.check(ours, exact, dtype, factor=3)
    assert with_bias or gradients[2] is None


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("chunk_rows", [None, 4])
def test_rows_of_the_weight_beyond_the_classes_do_not_count(device, dtype, chunk_rows, with_bias):
    x, weight, targets, bias = _linear_case(device, dtype, 61, with_bias)
    table = np.concatenate([weight, device.normal((3, 24), dtype)])
    dweight = device.put(np.full((64, 24), np.nan, np.float32))  # is overwritten
    loss, dx, got, db = kernels.linear_cross_entropy(
        *map(device.put, (x, table, targets, bias)),
        chunk_rows=chunk_rows,
        classes=61,
        dweight=dweight,
    )
    assert got is dweight
    wanted_loss, *wanted = _linear_reference(x, weight, targets, bias)
    _check_loss(device, loss, wanted_loss, dtype)
    for ours, exact in zip(
        (dx, dweight[:61].astype(x.dtype), db)[: 2 + with_bias], wanted, strict=False
    ):
        device.check(ours, exact, dtype, factor=3)
    assert not device.get(dweight)[61:].any()
    without, *_ = kernels.linear_cross_entropy(
        *map(device.put, (x, table, targets, bias)), classes=61, needs_gradient=False
    )
    _check_loss(device, without, wanted_loss, dtype)


def test_the_sum_of_the_weights_gradient_is_not_rounded(device):
    """Of bfloat16 inputs, many chunks give dweight as exactly as one."""
    pytest.importorskip("ml_dtypes")
    x, weight, targets, _ = _linear_case(device, "bfloat16", 61, False)
    moved = tuple(map(device.put, (x, weight, targets)))
    sums = [device.put(np.empty((61, 24), np.float32)) for _ in "12"]
    for dweight, rows in zip(sums, (None, 1), strict=True):
        kernels.linear_cross_entropy(*moved, chunk_rows=rows, dweight=dweight)
    np.testing.assert_allclose(*map(device.get, sums), atol=1e-6)


def test_an_infinity_does_not_stay_behind_the_weights_gradient(device):
    x, weight, targets, _ = _linear_case(device, "float32", 61, False)
    x[0, 0, 0] = np.inf
    table, dweight = np.concatenate([weight, weight[:3] * 0]), np.empty((64, 24), np.float32)
    with np.errstate(invalid="ignore"):
        _, _, dweight, _ = kernels.linear_cross_entropy(
            *map(device.put, (x, table, targets)), classes=61, dweight=device.put(dweight)
        )
    assert np.isnan(device.get(dweight)[:61]).any()
    assert not device.get(dweight)[61:].any()


def test_linear_cross_entropy_without_gradient_and_with_nothing_to_count(device):
    x, weight = device.normal((4, 8)), device.normal((10, 8))
    targets = np.array([1, 2, 3, 4])
    moved = device.put(x), device.put(weight)
    loss, *gradients = kernels.linear_cross_entropy(
        *moved, device.put(targets), needs_gradient=False
    )
    expected, _ = reference.cross_entropy(x.astype(np.float64) @ weight.T, targets)
    device.check(loss, np.array(expected.mean()), "float32")
    assert gradients == [None, None, None]
    loss, dx, dweight, _ = kernels.linear_cross_entropy(*moved, device.put(np.full(4, -100)))
    assert np.isnan(device.get(loss))
    assert not device.get(dx).any()
    assert not device.get(dweight).any()


@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        (
            np.ones((2, 3), np.float32),
            np.zeros((2, 1), np.int64),
            r"targets must have shape \(2,\)",
        ),
        (np.ones((2, 3), np.float32), np.zeros(2), "int32 or int64, got an array of float64"),
        (np.ones((2, 0), np.float32), np.zeros(2, np.int64), "at least one class"),
    ],
)
def test_refusals(logits, targets, words):
    with pytest.raises(kernels.KernelError, match="cross_entropy: .*" + words):
        kernels.cross_entropy(logits, targets)


@pytest.mark.parametrize("classes", [0, 4])
def test_classes_are_columns(classes):
    logits, targets = np.ones((2, 3), np.float32), np.zeros(2, np.int64)
    row = np.ones(2, np.float32)
    for kernel, more in (
        (kernels.cross_entropy, ()),
        (kernels.cross_entropy_with_gradient, ()),
        (kernels.cross_entropy_backward, (row, row)),
    ):
        with pytest.raises(kernels.KernelError, match=rf"classes must be 1 \.\. 3.*got {classes}"):
            kernel(logits, targets, *more, classes=classes)
    with pytest.raises(kernels.KernelError, match=r"classes must be 1 \.\. 3, the rows of weight"):
        kernels.linear_cross_entropy(logits, np.ones((3, 3), np.float32), targets, classes=classes)


@pytest.mark.parametrize(
    ("dweight", "words"),
    [
        (np.ones((3, 3), np.float16), "dweight must be C-contiguous float32"),
        (np.ones((3, 3), np.float32).T, "dweight must be C-contiguous float32"),
        (np.ones((2, 3), np.float32), r"dweight must have shape \(3, 3\), got \(2, 3\)"),
    ],
)
def test_refused_places_for_the_weights_gradient(dweight, words):
    x = np.ones((2, 3), np.float32)
    with pytest.raises(kernels.KernelError, match=words):
        kernels.linear_cross_entropy(
            x, np.ones((3, 3), np.float32), np.zeros(2, np.int64), dweight=dweight
        )


def test_linear_cross_entropy_refuses_two_dtypes():
    with pytest.raises(kernels.KernelError, match="x is float16 and weight is float32"):
        kernels.linear_cross_entropy(
            np.ones((2, 3), np.float16), np.ones((5, 3), np.float32), np.zeros(2, np.int64)
        )
