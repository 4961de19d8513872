"""Every op of the registry on types that its samples do not have: 16 bits, integers, mixtures."""

import numpy as np
import pytest

from tests.ops.test_every_op import CASES, float_results
from tests.stand_in_gpu import DeviceArray, stand_in_gpu
from tinygrad_llm import use_kernels
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend.dtypes import as_dtype, is_float
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.explain.proof import differentiable_call

# cast changes the type on purpose; a cross-entropy sums in float32 and stays there.
OTHER_RESULT = ("cast", "cross_entropy", "linear_cross_entropy", "mse_loss")


def as_numpy(x):
    return (x.host if isinstance(x, DeviceArray) else x).astype(np.float64)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("op", "s"), CASES)
def test_16_bits_stay_16_bits_and_are_close(op, s, dtype, device, monkeypatch):
    run, inputs = differentiable_call(op.function.apply, s)
    exact = [Tensor(x.astype(as_dtype(dtype)).astype(float), requires_grad=True) for x in inputs]
    want = float_results(run(*exact))
    with stand_in_gpu(monkeypatch), use_kernels("off"):
        narrow = [
            Tensor(x.data.astype(as_dtype(dtype)), device=device, requires_grad=True) for x in exact
        ]
        got = float_results(run(*narrow))
        for y, expected in zip(got, want, strict=True):
            if op.name not in OTHER_RESULT:
                assert y.dtype.name == dtype
            np.testing.assert_allclose(
                as_numpy(y.data), expected.numpy(), rtol=0.06, atol=0.06 * scale(expected.data)
            )
            y.backward(y.detach() * 0 + 1, retain_graph=True)
            expected.backward(np.ones(expected.shape), retain_graph=True)
    for x, expected in zip(narrow, exact, strict=True):
        assert x.grad.dtype == x.dtype
        np.testing.assert_allclose(
            as_numpy(x.grad), expected.grad, rtol=0.1, atol=0.1 * scale(expected.grad)
        )


def result_or_refusal(op, run, tensors):
    """What the op returns, or None where a DTypeError with the op's name refuses the types."""
    try:
        return run(*tensors)
    except DTypeError as error:
        refusal = str(error)
    assert op.name in refusal
    return None


def scale(x):
    return max(float(np.abs(x[np.isfinite(x)]).max(initial=0)), 1.0)


@pytest.mark.parametrize(("op", "s"), CASES)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_integers_are_computed_right_or_refused(op, s, dtype):
    """The result is that of the same numbers as floats, or a DTypeError says what to do."""
    run, inputs = differentiable_call(op.function.apply, s)
    whole = [np.abs(np.round(x)).astype(dtype) for x in inputs]
    with np.errstate(divide="ignore", invalid="ignore"):
        got = result_or_refusal(op, run, [Tensor(x) for x in whole])
        if got is None:
            return
        want = run(*[Tensor(x.astype(np.float64)) for x in whole])
    several = (o if isinstance(o, tuple) else (o,) for o in (got, want))
    for y, expected in zip(*several, strict=True):
        assert y.dtype != np.float64 or op.name == "cast"
        if y.dtype == np.uint8:  # counts modulo 256, as everywhere
            np.testing.assert_array_equal(y.numpy(), expected.numpy() % 256)
        elif y.dtype.kind != "b":
            np.testing.assert_allclose(y.numpy().astype(float), expected.numpy(), rtol=1e-5)


SEVERAL = [
    pytest.param(*case.values, id=case.id)
    for case in CASES
    if len(differentiable_call(case.values[0].function.apply, case.values[1])[1]) > 1
]


@pytest.mark.parametrize(("op", "s"), SEVERAL)
@pytest.mark.parametrize(
    "types",
    [
        ("float32", "float64"),
        ("float64", "float32"),
        ("float32", "bfloat16"),
        ("float16", "float32"),
    ],
)
def test_gradients_of_a_mixture_have_the_types_of_their_operands(op, s, types):
    run, inputs = differentiable_call(op.function.apply, s)
    first, others = (as_dtype(t) for t in types)
    mixed = [x.astype(others if i else first) for i, x in enumerate(inputs)]
    exact = [Tensor(x.astype(float), requires_grad=True) for x in mixed]
    mixed = [Tensor(x, requires_grad=True) for x in mixed]
    got = result_or_refusal(op, run, mixed)
    if got is None:
        return
    for y, expected in zip(float_results(got), float_results(run(*exact)), strict=True):
        assert is_float(y.dtype)
        np.testing.assert_allclose(
            as_numpy(y.data), expected.numpy(), rtol=0.06, atol=0.06 * scale(expected.data)
        )
        y.backward(np.ones(y.shape), retain_graph=True)
        expected.backward(np.ones(y.shape), retain_graph=True)
    for x, expected in zip(mixed, exact, strict=True):
        assert x.grad.dtype == x.dtype
        np.testing.assert_allclose(
            as_numpy(x.grad), expected.grad, rtol=0.1, atol=0.1 * scale(expected.grad)
        )
