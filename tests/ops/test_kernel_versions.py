"""Each kernel version against its op's array code, in Triton's interpreter, or on a GPU."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd import REGISTRY, Tensor
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.explain.proof import differentiable_call

pytest.importorskip("triton")

CASES = [
    pytest.param(op, s, id=f"{op.name}-{s.label or i}")
    for op in REGISTRY.values()
    if op.function.kernel_version is not None
    for i, s in enumerate(op.samples(np.random.default_rng(3)))
]


def results(op, s, mode, device="cpu"):
    run, inputs = differentiable_call(op.function.apply, s)
    tensors = [Tensor(x.astype(np.float32), device=device, requires_grad=True) for x in inputs]
    with tg.use_kernels(mode):
        outs = run(*tensors)
        outs = [o for o in (outs if isinstance(outs, tuple) else (outs,)) if is_float(o.dtype)]
        (sum(((o * o).sum() for o in outs[1:]), (outs[0] * outs[0]).sum())).backward()
    ran = {o._node.ran for o in outs} if outs[0]._node else set()
    grads = [tg.tensor(t.grad).numpy() for t in tensors]
    return [o.numpy() for o in outs] + grads, ran


@pytest.mark.parametrize(("op", "s"), CASES)
def test_kernel_version_equals_array_code(op, s):
    plain, _ = results(op, s, "off")
    try:
        forced, ran = results(op, s, "force")
    except tg.errors.KernelError as reason:
        pytest.skip(str(reason))  # the kernel refuses with a sentence; the op then uses array code
    for a, b in zip(plain, forced, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(("op", "s"), CASES)
def test_kernel_version_equals_array_code_on_a_gpu(op, s):
    plain, _ = results(op, s, "off")
    on_gpu, _ = results(op, s, "auto", device="cuda")
    for a, b in zip(plain, on_gpu, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_refusals_say_why():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with tg.use_kernels("force"), pytest.raises(tg.errors.KernelError, match="float64"):
        tg.functional.softmax(x)


def test_a_refusal_names_the_op_once():
    q = Tensor(np.ones((1, 1, 2, 300), np.float32))
    with tg.use_kernels("force"), pytest.raises(tg.errors.KernelError) as refused:
        tg.functional.scaled_dot_product_attention(q, q, q)
    assert str(refused.value) == (
        "scaled_dot_product_attention: a kernel was demanded and cannot run: head size must be 1 "
        "to 256, got 300; use the array code"
    )


@pytest.mark.parametrize("given", [(0,), (1.0,)], ids=["axis", "p"])
def test_arguments_by_position_are_looked_at_too(given):
    op, words = {0: ("softmax", "last axis"), 1.0: ("dropout", "p = 1")}[given[0]]
    x = Tensor(np.ones((2, 3), np.float32))
    with tg.use_kernels("force"), pytest.raises(tg.errors.KernelError, match=words):
        REGISTRY[op].function.apply(x, *given)


@pytest.mark.parametrize("op", ["softmax", "layer_norm", "gelu", "attention_qkv"])
def test_arguments_are_checked_once(op, monkeypatch):
    from tinygrad_llm import kernels

    kernel = getattr(kernels, {"gelu": "bias_gelu"}.get(op, op))
    calls, check = [], kernel._check
    monkeypatch.setattr(kernel, "_check", lambda *a, **k: calls.append(op) or check(*a, **k))
    more = (1,) if op == "attention_qkv" else ()
    with tg.use_kernels("force"):
        REGISTRY[op].function.apply(Tensor(np.ones((1, 4, 48), np.float32)), *more)
    assert calls == [op]


@pytest.mark.parametrize("op", ["gelu", "softmax", "dropout", "layer_norm"])
def test_scalars_are_left_to_array_code(op):
    x = Tensor(np.ones((), np.float32))
    with tg.use_kernels("force"), pytest.raises(tg.errors.KernelError, match="no axes"):
        REGISTRY[op].function.apply(x)


def test_decisions_are_noted():
    from tinygrad_llm import kernels

    with tg.use_kernels("force"):
        tg.functional.softmax(Tensor(np.ones((2, 3), np.float32)))
    assert "softmax" in str(kernels.explain_dispatch())


def test_unknown_mode():
    with pytest.raises(tg.errors.ConfigError, match="auto"):
        tg.use_kernels("maybe")
