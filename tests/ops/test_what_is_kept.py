"""Every op keeps only what a wanted gradient needs, whichever of its arguments want one."""

import weakref
from itertools import product

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.backend import is_array

CASES = [
    pytest.param(op, number, id=f"{op.name}-{s.label or number}")
    for op in REGISTRY.values()
    for number, s in enumerate(op.samples(np.random.default_rng(7)))
]
KEEPS_MORE = {
    "power": "the exponent says whether 0^b has a gradient, so it is needed where a base is 0",
    "scaled_dot_product_attention": "its gradients are computed together",
    "layer_norm": "its gradients are computed together",
    "add_layer_norm": "its gradients are computed together",
    "linear_cross_entropy": "a second backward pass computes all gradients again",
}
CASES = [case for case in CASES if case.values[0].name not in KEEPS_MORE]
KERNEL_VERSIONS = [case for case in CASES if case.values[0].function.kernel_version is not None]


def calls(op, number, dtype="float64"):
    """Calls of one sample, one for each choice of the arguments that want a gradient."""
    s = op.samples(np.random.default_rng(7))[number]
    floats = [
        i
        for i, a in enumerate(s.args)
        if is_array(a) and a.dtype.kind == "f" and i not in s.constant
    ]
    for choice in product([False, True], repeat=len(floats)):
        if any(choice):
            yield s, dict(zip(floats, choice, strict=True)), dtype


def run(op, call):
    """The results of a call, and the leaves that want a gradient."""
    s, wants, dtype = call
    args = [
        tg.tensor(a, dtype=dtype, requires_grad=wants[i]) if i in wants else a
        for i, a in enumerate(s.args)
    ]
    y = op.function.apply(*args, **s.kwargs)
    return y if isinstance(y, tuple) else (y,), [args[i] for i in wants if wants[i]]


def node_of(results):
    node = next(y._node for y in results if y._node is not None)
    return node.edges[0] if len(results) > 1 else node


def gradients(results, leaves):
    for i, y in enumerate(results):
        if y._node is not None:
            y.backward(
                np.random.default_rng(i).normal(size=y.shape).astype(y.dtype), retain_graph=True
            )
    return [x.grad for x in leaves]


def unneeded(op, call):
    """Places of what the op kept, a NaN in which changes no gradient."""
    expected = gradients(*run(op, call))
    for place in range(len(node_of(run(op, call)[0]).saved)):
        results, leaves = run(op, call)
        kept = node_of(results).saved[place]
        if is_array(kept) and kept.dtype.kind == "f" and kept.size:
            kept[...] = np.nan
            got = gradients(results, leaves)
            if all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True)):
                yield place


@pytest.mark.parametrize(("op", "number"), CASES)
def test_what_is_kept_is_needed(op, number):
    for call in calls(op, number):
        assert not list(unneeded(op, call)), f"wanted: {call[1]}"


@pytest.mark.parametrize(("op", "number"), KERNEL_VERSIONS)
def test_what_a_kernel_version_keeps_is_needed(op, number):
    pytest.importorskip("triton")
    try:
        with tg.use_kernels("force"):
            for call in calls(op, number, "float32"):
                assert not list(unneeded(op, call)), f"wanted: {call[1]}"
    except tg.errors.KernelError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("op", [tg.functional.linear, tg.matmul])
@pytest.mark.parametrize("frozen", [0, 1])
def test_what_no_gradient_needs_is_gone_with_its_last_name(op, frozen):
    operands = [tg.rand(3, 3), tg.rand(3, 3)]
    operands[1 - frozen] = tg.rand(3, 3).requires_grad_() * 2
    y = op(*operands)
    memory = weakref.ref(operands.pop(1 - frozen).data)
    assert y.requires_grad
    assert memory() is None
