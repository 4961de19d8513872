"""The last layer with its loss on a GPU: chunks of rows, and gradients in half precision."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.ops.on_gpu.losses import LOGITS_BYTES, rows_at_once

GPT2 = 50257 * 2  # bytes of a row of logits


def test_chunks_are_few_and_even():
    for n in (100, 8192, 16 * 1024, 32 * 1024, 64 * 1024):
        rows = rows_at_once(n, GPT2)
        chunks = -(-n // rows)
        assert rows % 128 == 0
        assert rows * GPT2 <= LOGITS_BYTES + 128 * GPT2
        assert chunks == -(-n * GPT2 // LOGITS_BYTES)
        assert chunks * rows - n < 128 * chunks  # the last one is hardly smaller
    assert rows_at_once(0, GPT2) == 0
    assert rows_at_once(10**6, LOGITS_BYTES) == 128  # a row is not cut


def gradients(dtype, share, mode):
    """dx of the loss times ``share``, and what the optimizer's flat float32 array gets as dW."""
    rng = np.random.default_rng(0)
    x = tg.Tensor(rng.normal(size=(6, 8)), dtype, requires_grad=True)
    layer = tg.nn.Linear(8, 5, bias=False, generator=tg.backend.random.Generator(0)).to(dtype)
    optimizer = tg.optim.AdamW(layer)
    with tg.use_kernels(mode):
        for _ in range(2):  # the second adds to the first
            loss = tg.functional.linear_cross_entropy(x, layer.weight, [0, 1, 2, 3, 4, 0])
            loss.backward(np.asarray(share, loss.dtype))
    (dw,) = optimizer.gradients()
    return x.grad.astype(np.float64), dw


def test_the_share_of_a_micro_batch_is_not_rounded_to_bfloat16():
    pytest.importorskip("triton")
    pytest.importorskip("ml_dtypes")
    share = 0.2505  # 0.25 in bfloat16: the sums would be 0.2 % too small
    whole, parts = gradients("bfloat16", 1.0, "force"), gradients("bfloat16", share, "force")
    dw, one = parts[1], whole[1]
    assert dw.dtype == np.float32
    assert float((dw * one).sum() / (one * one).sum()) == pytest.approx(share, rel=1.5e-3)
    exact = gradients("float32", share, "off")
    for ours, wanted in zip(parts, exact, strict=True):
        assert np.linalg.norm(ours - wanted) < 1e-2 * np.linalg.norm(wanted)


def test_float16_takes_the_array_code():
    pytest.importorskip("triton")
    with pytest.raises(tg.errors.KernelError, match="too small for float16"):
        gradients("float16", 1.0, "force")
