"""What every kernel costs on a chip, in its default configuration at the sizes of GPT-2.

    python -m tinygrad_llm.kernels.catalog 90          # registers, stack, shared memory for sm_90

Needs no GPU: the kernels are compiled, not run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from .adamw_kernel import adamw
from .attention_kernel.decode import attention_decode
from .attention_kernel.forward import attention
from .attention_kernel.gradients import attention_backward
from .compiling import Resources, compile_only, resources, table
from .cross_entropy_kernel import cross_entropy, cross_entropy_backward, cross_entropy_with_gradient
from .dropout_kernel import dropout
from .embedding_kernel import embedding, embedding_backward
from .gelu_kernel import bias_gelu, bias_gelu_backward
from .grad_norm_kernel import clip_factor, scale_in_place
from .layer_norm_kernel import add_layer_norm, layer_norm, layer_norm_backward
from .softmax_kernel import softmax, softmax_backward

ROWS, WIDTH, VOCABULARY, HEADS, CONTEXT = 2048, 768, 50304, 12, 1024
CLASSES = 50257  # GPT-2's vocabulary, in rows of VOCABULARY columns
LONG = 16384
KEY = (1, 2)
HEAD_SIZES = (64, 128)


def _array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        import ml_dtypes
        return np.zeros(shape, ml_dtypes.bfloat16)
    return np.zeros(shape, dtype)


def launches(dtype: str = "bfloat16",
             heads: Sequence[int] = HEAD_SIZES) -> dict[str, Callable[[], object]]:
    """Name -> a call that launches the kernels of that name on arrays of GPT-2's sizes.

    heads: the head sizes of attention
    """
    return (row_launches(dtype) | elementwise_launches(dtype) | vocabulary_launches(dtype)
            | attention_launches(dtype, heads))


def row_launches(dtype: str) -> dict[str, Callable[[], object]]:
    """Softmax and layer norm, with rows of the model's width and with the widest they take."""
    x, w, row = _array((ROWS, WIDTH), dtype), _array((WIDTH,), dtype), np.zeros(ROWS, np.float32)
    logits, long = _array((64, VOCABULARY), dtype), _array((4, LONG), dtype)
    return {
        "softmax": lambda: softmax(x),
        "softmax_backward": lambda: softmax_backward(x, x),
        "layer_norm": lambda: layer_norm(x, w, w),
        "add_layer_norm": lambda: add_layer_norm(x, x, w, w),
        "layer_norm_backward": lambda: layer_norm_backward(x, x, w, row, row, x),
        "softmax long": lambda: softmax(logits),
        "softmax_backward long": lambda: softmax_backward(logits, logits),
        "layer_norm long": lambda: layer_norm(long, long[0], long[0]),
        "add_layer_norm long": lambda: add_layer_norm(long, long, long[0], long[0]),
        "layer_norm_backward 8192": lambda: layer_norm_backward(
            long[:, :8192], long[:, :8192], long[0, :8192], row[:4], row[:4], long[:, :8192]),
        "layer_norm_backward long": lambda: layer_norm_backward(
            long, long, long[0], row[:4], row[:4], long),
    }


def elementwise_launches(dtype: str) -> dict[str, Callable[[], object]]:
    """GELU, dropout, and the optimizer's update with the gradients' norm before it."""
    x, wide = _array((ROWS, WIDTH), dtype), _array((ROWS, 4 * WIDTH), dtype)
    b, step = _array((4 * WIDTH,), dtype), np.zeros(1, np.float32)
    flat = np.zeros(1 << 16, np.float32)
    return {
        "bias_gelu tanh": lambda: bias_gelu(wide, b),
        "bias_gelu erf": lambda: bias_gelu(wide, b, "none"),
        "bias_gelu_backward tanh": lambda: bias_gelu_backward(wide, wide, b),
        "bias_gelu_backward erf": lambda: bias_gelu_backward(wide, wide, b, "none"),
        "dropout": lambda: dropout(x, 0.1, KEY),
        "adamw": lambda: adamw(flat, flat, flat, flat, lr=step, step=step, clip=step,
                               weights=None if dtype == "float32" else _array(flat.shape, dtype)),
        "clip_factor": lambda: clip_factor(x, 1.0),
        "scale_in_place": lambda: scale_in_place(x, step),
    }


def vocabulary_launches(dtype: str) -> dict[str, Callable[[], object]]:
    """Embedding and cross-entropy; "padded" means rows wider than there are classes."""
    x, ids = _array((ROWS, WIDTH), dtype), np.zeros(ROWS, np.int64)
    logits, targets = _array((64, VOCABULARY), dtype), ids[:64]
    row, dloss = np.zeros(64, np.float32), np.zeros(1, np.float32)
    return {
        "cross_entropy": lambda: cross_entropy(logits, targets),
        "cross_entropy_with_gradient": lambda: cross_entropy_with_gradient(logits, targets, dloss),
        "cross_entropy_backward": lambda: cross_entropy_backward(logits, targets, row, dloss),
        "cross_entropy padded": lambda: (
            cross_entropy(logits, targets, classes=CLASSES),
            cross_entropy_with_gradient(logits, targets, dloss, classes=CLASSES),
            cross_entropy_backward(logits, targets, row, dloss, classes=CLASSES)),
        "embedding": lambda: embedding(ids, x),
        "embedding_backward": lambda: embedding_backward(x, ids, ROWS),
        "embedding_backward atomic": lambda: embedding_backward(x, ids, ROWS, False),
    }


def attention_launches(dtype: str, heads: Sequence[int],
                       causal: bool = True) -> dict[str, Callable[[], object]]:
    """Those of attention: forward and backward, with and without dropout, and decode."""
    calls: dict[str, Callable[[], object]] = {}
    logsum = np.zeros((1, HEADS, CONTEXT), np.float32)

    def add(d: int, p: float) -> None:
        q = _array((1, HEADS, CONTEXT, d), dtype)

        def run(deterministic: bool) -> None:
            attention(q, q, q, causal, None, p, KEY)
            attention_backward(q, q, q, q, q, logsum, causal, None, p, KEY, deterministic)

        name = f"attention D={d}" + ("" if causal else " full") + (" dropout" if p else "")
        calls[name] = lambda: run(False)
        calls[f"{name} deterministic"] = lambda: run(True)
        calls[f"attention_decode D={d}"] = lambda: attention_decode(q[:, :, :1], q, q, 1000)

    for d in heads:
        add(d, 0.0)
        add(d, 0.1)
    return calls


def resource_table(chips: tuple[int, ...] = (80, 90, 100), dtype: str = "bfloat16",
                   heads: Sequence[int] = HEAD_SIZES) -> list[tuple[str, Resources]]:
    """(launch, resources) of every kernel compiled for every chip; one row per machine code."""
    return measure(launches(dtype, heads), chips)


def measure(calls: dict[str, Callable[[], object]],
            chips: tuple[int, ...]) -> list[tuple[str, Resources]]:
    """(launch, resources) of what `calls` launch."""
    rows = []
    for chip in chips:
        seen = set()
        for name, call in calls.items():
            with compile_only(chip) as compiled:
                call()
            for kernel in compiled:
                if kernel.hash not in seen:
                    seen.add(kernel.hash)
                    rows.append((name, resources(kernel)))
    return rows


if __name__ == "__main__":
    asked = tuple(int(argument) for argument in sys.argv[1:]) or (80, 90, 100)
    print(table(resource_table(asked)))
