"""What bench_kernels.py measures: cases by name, at the sizes of the real step and beyond.

A piece of work is a line of text, `KIND SHAPE OP`, so that any process can build it:
"attention 16x12x1024x64 attention_backward". Sizes of the training step are read from its trace
(step_trace.py); those that the step does not have stand here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import attention_cases
import head_cases
import kernel_cases
import linear_cases
from cases import Case

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """What a shape of this kind gives: `build(xp, dtype, *shape)` yields a case for each op."""

    build: Callable[..., Iterator[Case]]
    ops: tuple[str, ...]


KINDS = {
    "attention": Kind(attention_cases.attention, ("attention", "attention_backward")),
    "cross_entropy": Kind(kernel_cases.cross_entropy, ("cross_entropy",)),
    "head": Kind(head_cases.products, ("head_logits", "head_dx", "head_dw")),
    "linear": Kind(
        linear_cases.layer,
        ("linear", "linear_gelu", "linear_gelu_backward", "linear_backward_weight"),
    ),
    "layer_norm": Kind(
        kernel_cases.layer_norm, ("layer_norm", "add_layer_norm", "layer_norm_backward")
    ),
    "bias_gelu": Kind(kernel_cases.bias_gelu, ("bias_gelu", "bias_gelu_backward")),
    "embedding": Kind(kernel_cases.embedding, ("embedding", "embedding_backward")),
    "adamw": Kind(kernel_cases.adamw, ("adamw",)),
    "grad_norm": Kind(kernel_cases.grad_norm, ("clip_factor",)),
    "softmax": Kind(kernel_cases.softmax, ("softmax",)),
    "dropout": Kind(kernel_cases.dropout, ("dropout",)),
    "decode": Kind(attention_cases.decode, ("attention_decode",)),
}

# vocabulary shapes: rows, columns that count, elements from one row to the next
TINY: dict[str, list[Shape]] = {
    "attention": [(1, 2, 33, 16)],
    "cross_entropy": [(5, 99, 99), (5, 99, 112)],
    "head": [(9, 16, 99, 112), (9, 16, 112, 112)],
    "linear": [(9, 16, 48)],
    "layer_norm": [(9, 48)],
    "bias_gelu": [(9, 48)],
    "embedding": [(9, 48)],
    "adamw": [(999,)],
    "grad_norm": [(999,)],
    "softmax": [(9, 48)],
    "dropout": [(9, 48)],
    "decode": [(1, 2, 70, 16)],
}
BEYOND: dict[str, dict[str, list[Shape]]] = {
    "quick": {
        "attention": [(4, 16, 4096, 64), (4, 16, 4096, 128)],
        "bias_gelu": [(32768, 3072)],
        "softmax": [(65536, 768)],
        "dropout": [(65536, 768)],
        "decode": [(8, 12, 1024, 64)],
    },
    "full": {
        "attention": [
            (8, 32, 2048, 64),
            (4, 32, 4096, 64),
            (2, 32, 8192, 64),
            (16, 16, 1024, 128),
            (4, 16, 4096, 128),
            (2, 16, 8192, 128),
            (4, 8, 4096, 256),
        ],
        "cross_entropy": [(8192, 32768, 32768), (4096, 131072, 131072)],
        "layer_norm": [(65536, 1024), (65536, 1600), (32768, 4096), (8192, 16384)],
        "bias_gelu": [(32768, 3072), (65536, 1600)],
        "adamw": [(355_000_000,)],
        "grad_norm": [(355_000_000,)],
        "softmax": [(65536, 768), (32768, 4096)],
        "dropout": [(65536, 768)],
        "decode": [(1, 12, 1024, 64), (8, 12, 1024, 64), (64, 12, 1024, 64)],
    },
}
# What the trace says of GPT-2 124M with 32 sequences, for a machine on which it fails.
KNOWN: dict[str, list[Shape]] = {
    "attention": [(32, 12, 1024, 64)],
    "cross_entropy": [(8192, 50257, 50304)],
    "head": [(8192, 768, 50257, 50304), (8192, 768, 50304, 50304)],
    "linear": [(32768, 768, 3072)],
    "layer_norm": [(32768, 768)],
    "embedding": [(32768, 768)],
    "adamw": [(124_475_904,)],
    "grad_norm": [(124_475_904,)],
}


@functools.cache
def of_the_step() -> dict[str, list[Shape]]:
    """Shapes by kind of one training step of GPT-2 124M with 32 sequences."""
    import step_trace

    first = {op: calls[0] for op, calls in step_trace.sizes(32).items()}
    arrays = {op: call.arrays for op, call in first.items()}
    norm, qkv = arrays["add_layer_norm"]["x"], arrays["attention_qkv"]["qkv"]
    (b, t, width), heads = qkv.shape, first["attention_qkv"].integers["n_head"]
    expand, hidden = arrays["linear_gelu"]["weight"], arrays["linear_cross_entropy"]["x"]
    logits = arrays["cross_entropy_with_gradient"]["logits"]
    rows, stride = logits.rows, logits.stride
    classes = first["cross_entropy_with_gradient"].integers.get("classes") or logits.columns
    n = arrays["adamw"]["parameters"].size
    return {
        "attention": [(b, heads, t, width // 3 // heads)],
        "cross_entropy": [(rows, classes, stride)],
        "head": [(rows, hidden.columns, classes, stride), (rows, hidden.columns, stride, stride)],
        "linear": [(norm.rows, expand.columns, expand.rows)],
        "layer_norm": [(norm.rows, norm.columns)],
        "embedding": [(norm.rows, norm.columns)],
        "adamw": [(n,)],
        "grad_norm": [(n,)],
    }


def pieces(size: str, kinds: list[str] | None = None) -> list[str]:
    """Names of all pieces at "tiny", "quick" or "full" sizes, or of some kinds."""
    step = TINY if size == "tiny" else _of_the_step_or_known()
    more = BEYOND.get(size, {})
    return [
        f"{kind} {'x'.join(map(str, shape))} {op}"
        for kind, found in KINDS.items()
        if not kinds or kind in kinds
        for shape in step.get(kind, []) + more.get(kind, [])
        for op in found.ops
    ]


def _of_the_step_or_known() -> dict[str, list[Shape]]:
    try:
        return of_the_step()
    except Exception as error:  # whatever it is: it must not end a session on a GPU
        print(f"sizes of an earlier trace, since the step cannot be traced: {error}", flush=True)
        return KNOWN


def build(piece: str, xp: ModuleType, dtype: str) -> Case:
    """The case of a piece, with arrays of the module xp."""
    kind, shape, op = piece.split()
    return next(c for c in _cases(kind, shape, xp, dtype) if c.op == op)


@functools.lru_cache(maxsize=1)  # pieces of one kind and shape follow each other, and share arrays
def _cases(kind: str, shape: str, xp: ModuleType, dtype: str) -> list[Case]:
    return list(KINDS[kind].build(xp, dtype, *map(int, shape.split("x"))))
