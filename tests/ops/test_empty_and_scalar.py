"""Every op on arrays with an axis of length 0, and on arrays without axes, in both directions."""

import warnings

import numpy as np
import pytest

from tests.shortened_samples import EMPTY, SCALAR
from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.gradcheck import gradcheck
from tinygrad_llm.backend import pool
from tinygrad_llm.errors import IndexRangeError, ShapeError
from tinygrad_llm.explain.proof import differentiable_call

# What cannot be computed: an extreme of nothing, ids of an empty table, a shape that says a length.
MAY_REFUSE_EMPTY = {
    "max",
    "min",
    "embedding",
    "cross_entropy",
    "linear_cross_entropy",
    "getitem",
    "setitem",
    "broadcast_to",
    "gather",
    "scatter",
    "scatter_add",
}
# Where nothing is divided by nothing the result is NaN, as in NumPy and PyTorch; log 0 is -inf.
NOT_FINITE = {"logsumexp", "mean", "mse_loss", "std", "var"}


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan(monkeypatch):
    """What an op takes and forgets to write becomes visible."""

    def empty(shape, dtype):
        x = np.empty(shape, dtype)
        x.fill(np.nan if x.dtype.kind == "f" else 0)
        return x

    monkeypatch.setattr(pool, "empty", empty)


def check_both_directions(op, s):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if op.name in NOT_FINITE else "error", RuntimeWarning)
        compute_both_directions(op, s)


def compute_both_directions(op, s):
    run, inputs = differentiable_call(op.function.apply, s)
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    out = run(*tensors)
    outs = out if isinstance(out, tuple) else (out,)
    sum((o.sum() for o in outs[1:]), outs[0].sum()).backward()
    for x in tensors:
        assert x.grad is None or x.grad.shape == x.shape
    if op.name in NOT_FINITE:
        return
    assert all(np.isfinite(o.numpy()).all() for o in outs if o.dtype.kind == "f")
    gradcheck(run, inputs)


@pytest.mark.parametrize(("op", "s"), EMPTY)
def test_an_axis_of_length_zero(op, s):
    may_refuse = op.name in MAY_REFUSE_EMPTY or "cached keys" in s.label  # fewer keys than queries
    try:
        check_both_directions(op, s)
    except (ShapeError, IndexRangeError):
        if not may_refuse:
            raise


NEEDS_AN_AXIS = {
    "add_layer_norm",
    "attention_qkv",
    "concatenate",
    "cross_entropy",
    "embedding",
    "feed_forward",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "matmul",
    "scaled_dot_product_attention",
    "split",
    "swapaxes",
}
NAMES_ITS_AXES = {  # the samples do, and so cannot fit
    "einsum",
    "gather",
    "getitem",
    "reshape",
    "scatter",
    "scatter_add",
    "setitem",
    "transpose",
}


@pytest.mark.parametrize(("op", "s"), SCALAR)
def test_without_axes(op, s):
    try:
        check_both_directions(op, s)
    except (ShapeError, IndexRangeError):
        if op.name not in NEEDS_AN_AXIS | NAMES_ITS_AXES:
            raise
    else:
        assert op.name not in NEEDS_AN_AXIS


def zeros(*shape):
    return Tensor(np.zeros(shape), requires_grad=True)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (lambda: zeros(3, 0).softmax(), np.zeros((3, 0))),
        (lambda: zeros(3, 0).log_softmax(), np.zeros((3, 0))),
        (lambda: zeros(0, 3).max(axis=1), np.zeros(0)),
        (lambda: zeros(0, 3).min(axis=1, keepdims=True), np.zeros((0, 1))),
        (lambda: zeros(0, 3).argmax(axis=1), np.zeros(0)),
        (lambda: zeros(0, 3).sum(axis=0), np.zeros(3)),
        (lambda: zeros(0, 3).sum(), np.zeros(())),
        (lambda: F.linear(zeros(3, 0), zeros(2, 0), Tensor([1.0, 2.0])), [[1, 2]] * 3),
        (
            lambda: F.scaled_dot_product_attention(zeros(1, 1, 3, 2), *[zeros(1, 1, 0, 2)] * 2),
            np.zeros((1, 1, 3, 2)),
        ),
        (
            lambda: F.scaled_dot_product_attention(zeros(1, 0, 2), *[zeros(1, 5, 2)] * 2),
            np.zeros((1, 0, 2)),
        ),
        (lambda: F.layer_norm(zeros(3, 0)), np.zeros((3, 0))),
        (lambda: zeros(2, 3)[[]], np.zeros((0, 3))),
        (lambda: zeros(2, 3)[:, []], np.zeros((2, 0))),
        (lambda: zeros(2, 3)[[[]]], np.zeros((1, 0, 3))),
        (lambda: zeros().sum(axis=0), 0.0),
        (lambda: zeros().mean(axis=-1, keepdims=True), 0.0),
        (lambda: zeros().max(axis=0), 0.0),
        (lambda: zeros().argmax(axis=-1), 0),
        (lambda: zeros().softmax(), 1.0),
        (lambda: zeros().log_softmax(axis=0), 0.0),
    ],
)
def test_results_are_those_of_numpy_and_pytorch(result, expected):
    out = result()
    np.testing.assert_array_equal(out.numpy(), expected)
    assert out.shape == np.shape(expected)
    if out.requires_grad:
        out.sum().backward()


@pytest.mark.parametrize(
    "refused",
    [
        lambda: zeros(3, 0).max(axis=1),
        lambda: zeros(0, 3).max(),
        lambda: zeros(0, 3).min(axis=0),
        lambda: zeros(3, 0).argmax(axis=1),
        lambda: zeros().sum(axis=1),
        lambda: zeros(0, 3).chunk(0),
        lambda: zeros(3).broadcast_to(-1),
        lambda: zeros(3).repeat(-1),
        lambda: zeros().softmax(axis=1),
        lambda: F.cross_entropy(zeros(2, 0), [-100, -100]),
        lambda: F.cross_entropy(zeros(), []),
    ],
)
def test_an_extreme_of_nothing_and_an_axis_that_is_not_there_are_refused(refused):
    with pytest.raises(ShapeError):
        refused()


def test_keys_that_nobody_looks_at_get_a_gradient_of_zero():
    q, k, v = zeros(2, 1, 0, 4), zeros(2, 1, 5, 4), zeros(2, 1, 5, 4)
    F.scaled_dot_product_attention(q, k, v).sum().backward()
    assert not k.grad.any()
    assert not v.grad.any()
