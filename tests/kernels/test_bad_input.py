"""What a kernel cannot take: each refusal is a sentence that names kernel, argument and way out."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_llm import kernels

X, W, ROW = np.ones((3, 8), np.float32), np.ones(8, np.float32), np.ones(3, np.float32)
IDS, Q, FLAT = np.zeros(3, np.int64), np.ones((1, 2, 4, 16), np.float32), np.ones(9, np.float32)
X64, SHORT, LONG = X.astype(np.float64), np.ones(7, np.float32), np.ones((1, 40000), np.float32)
LSE = np.ones((1, 2, 4), np.float32)
TABLE = np.ones((5, 8), np.float32)


class Elsewhere:
    """As much of an array on a GPU as a check looks at."""

    def __init__(self, like):
        self.shape, self.dtype, self.ndim, self.size = like.shape, like.dtype, like.ndim, like.size


CASES = {
    "dtype": [
        (
            kernels.softmax,
            (X64,),
            "softmax: x must be an array of float32, float16 or bfloat16, "
            "got an array of float64; convert it with astype",
        ),
        (kernels.layer_norm, (X, W.astype(int)), "layer_norm: weight must be an array of float32"),
        (kernels.layer_norm_backward, (X64, X, W, ROW, ROW), "layer_norm_backward: dy must be"),
        (kernels.bias_gelu, (X64, W), "bias_gelu: x must be an array of float32"),
        (kernels.bias_gelu_backward, (X, X64, W), "bias_gelu_backward: x must be"),
        (kernels.dropout, (X64, 0.5, (1, 2)), "dropout: x must be an array of float32"),
        (kernels.cross_entropy, (X, IDS.astype(float)), "targets must be an array of int32"),
        (
            kernels.linear_cross_entropy,
            (X, TABLE.astype(np.float16), IDS),
            "x is float32 and weight is float16; convert one",
        ),
        (kernels.embedding, (ROW, TABLE), "embedding: ids must be an array of int32 or int64"),
        (kernels.embedding_backward, (X64, IDS, 5), "embedding_backward: dy must be"),
        (kernels.attention, (Q, Q.astype(np.float16), Q), "q, k and v must have one dtype"),
        (kernels.attention_decode, (Q[:, :, :1].astype(int), Q, Q), "attention_decode: q must be"),
        (kernels.grad_norm, ([X, X64],), r"grad_norm: gradients\[1\] must be"),
        (kernels.column_sum, (X64,), "column_sum: x must be"),
    ],
    "shape": [
        (kernels.softmax_backward, (X, X[:2]), r"y must have shape \(3, 8\), got \(2, 8\)"),
        (kernels.layer_norm, (X, SHORT), r"layer_norm: weight must have shape \(8,\), got \(7,\)"),
        (kernels.add_layer_norm, (X, X[:2]), r"residual must have shape \(3, 8\)"),
        (kernels.layer_norm_backward, (X, X, W, ROW[:2], ROW), r"mean must have shape \(3,\)"),
        (kernels.bias_gelu, (X, SHORT), r"bias must have shape \(8,\)"),
        (kernels.cross_entropy, (X, IDS[:2]), r"targets must have shape \(3,\), got \(2,\)"),
        (kernels.cross_entropy_backward, (X, IDS, ROW, ROW[:2]), "dloss must have 1 or 3 elements"),
        (kernels.linear_cross_entropy, (X, TABLE[:, :7], IDS), r"weight must have shape \(V, 8\)"),
        (kernels.embedding, (IDS, W), r"weight must have shape \(V, C\), got \(8,\)"),
        (kernels.embedding_backward, (X, IDS[:2], 5), r"ids must have shape \(3,\)"),
        (kernels.attention, (Q, Q[:, :1], Q[:, :1]), "must agree in batch, heads and head size"),
        (kernels.attention_backward, (Q, Q, Q, Q, Q, LSE[..., :3]), r"logsum must have shape"),
        (kernels.attention_qkv, (np.ones((1, 4, 25), np.float32), 2), "a multiple of n_head=2"),
        (kernels.attention_decode, (Q, Q, Q), r"q must have one row, \(B, H, 1, D\)"),
        (kernels.layer_norm, (LONG,), "last axis has 40000 elements, .* at most 16384; use"),
    ],
    "head size": [
        (
            kernels.attention,
            (np.ones((1, 1, 2, 257), np.float32),) * 3,
            "attention: head size must be 1 to 256, got 257; use the array code",
        ),
        (
            kernels.attention_qkv,
            (np.ones((1, 2, 3 * 300), np.float32), 1),
            "attention_qkv: head size must be 1 to 256, got 300; use the array code",
        ),
    ],
    "device": [
        (
            kernels.layer_norm,
            (X, Elsewhere(W)),
            "layer_norm: weight is a CuPy array while the "
            "first argument is a NumPy array; move it with",
        ),
        (kernels.attention, (Q, Elsewhere(Q), Q), "attention: k is a CuPy array"),
        (kernels.cross_entropy, (X, Elsewhere(IDS)), "cross_entropy: targets is a CuPy array"),
        (kernels.embedding, (IDS, Elsewhere(TABLE)), "embedding: weight is a CuPy array"),
        (kernels.linear_cross_entropy, (X, Elsewhere(TABLE), IDS), "weight is a CuPy array"),
        (kernels.softmax_backward, (X, Elsewhere(X)), "softmax_backward: y is a CuPy array"),
    ],
}


@pytest.mark.parametrize(
    ("kernel", "arguments", "words"),
    [
        pytest.param(*case, id=f"{kind}-{case[0].__name__}-{index}")
        for kind, cases in CASES.items()
        for index, case in enumerate(cases)
    ],
)
def test_refused_with_a_sentence(kernel, arguments, words):
    with pytest.raises(kernels.KernelError, match=words):
        kernel(*arguments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"parameters": FLAT.astype(np.float16)},
            "adamw: parameters must be contiguous float32, got float16; keep a float32 master copy",
        ),
        ({"gradients": FLAT[:5]}, r"adamw: gradients must have shape \(9,\), got \(5,\)"),
        ({"step": 0}, "adamw: step counts from 1, got 0"),
        ({"m": Elsewhere(FLAT)}, "adamw: m is a CuPy array"),
    ],
)
def test_adamw(change, words):
    arguments = {"parameters": FLAT, "gradients": FLAT, "m": FLAT, "v": FLAT, "lr": 0.1, "step": 1}
    with pytest.raises(kernels.KernelError, match=words):
        kernels.adamw(**{**arguments, **change})


def test_a_refusal_is_a_bare_reason_to_which_an_error_adds_the_kernels_name():
    reason = kernels.layer_norm.supports(X, SHORT)
    assert reason == "weight must have shape (8,), got (7,)"
    with pytest.raises(kernels.KernelError) as refused:
        kernels.layer_norm(X, SHORT)
    assert str(refused.value) == f"layer_norm: {reason}"
    assert kernels.layer_norm.supports(X, W) is None
    with pytest.raises(TypeError, match=r"layer_norm\(\) got an unexpected keyword argument 'w'"):
        kernels.layer_norm(X, w=W)


@pytest.mark.parametrize("out", [X[:2], X.astype(np.float16), np.ones((8, 3), np.float32).T])
def test_a_place_for_the_result_must_fit(out):
    with pytest.raises(kernels.KernelError, match="softmax: out must be a C-contiguous array of"):
        kernels.softmax(X, out=out)
