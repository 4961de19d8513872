"""The one-pass gradients of attention on arrays: which arrays it takes, its tiles, its launches."""

from __future__ import annotations

from typing import Any

from ._attention_common import LOG2_E, block_d, element_strides
from ._attention_configs import choose_and_run
from ._common import dropout_threshold, split_key
from ._descriptors import Descriptor, why_no_descriptor
from ._runtime import array_module, capability, cdiv, launch, next_power_of_2
from .attention_backward_one_pass_kernel import (
    attention_backward_convert_kernel,
    attention_backward_one_pass_kernel,
)
from .tuning import Config

CONVERTED = 4096  # elements that a program converts to the type of dq


def why_not_one_pass(do: Any, q: Any, k: Any, v: Any) -> str | None:
    """The reason why these gradients need the pair of kernels, or None. All are (B, H, T, D)."""
    if q.itemsize != 2:
        return f"one pass needs 16-bit elements, got {q.dtype}: registers do not suffice for more"
    chip = capability(q)
    if chip >= 110:
        return f"sm_{chip} has too little shared memory for one pass"
    if block_d(q.shape[3]) not in {64, 128}:
        return f"one pass needs a head size of 33 to 128, got {q.shape[3]}"
    reasons = (why_no_descriptor(a, chip) for a in (do, q, k, v))
    return next((reason for reason in reasons if reason is not None), None)


def one_pass_configs(q: Any, dropout: bool) -> list[Config]:
    """The configurations for arrays like q (B, H, T, D), the default first.

    None spills a register with Triton 3.6 to 3.9, and all fit into the 227 KiB of shared memory of
    sm_90 and sm_100. Four warps with 64 keys leave room for two programs on a multiprocessor, which
    hide each other's waiting, but add to dQ twice as often: on an H200 0.56 ms instead of 0.72 for
    32 sequences of 1024 tokens and 12 heads of 64.
    """
    if block_d(q.shape[3]) == 64:
        tiles = [(64, 64, 4, 3), (64, 128, 8, 2), (64, 64, 4, 2), (64, 128, 8, 3)]
    elif capability(q) >= 100:  # dK, dV, S, dP and dQ share 512 columns of accumulator memory
        tiles = [(64, 64, 8, 2), (64, 64, 4, 2)]
    elif dropout:  # its random bits take the registers of half the queries
        tiles = [(32, 128, 8, 2), (64, 64, 8, 2)]
    else:
        tiles = [(64, 128, 8, 2), (32, 128, 8, 2), (64, 64, 8, 2)]
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    return [{**dict(zip(names, tile, strict=True)), "max_registers": 255} for tile in tiles]


def one_pass(do: Any, q: Any, k: Any, v: Any, lse_log2: Any, delta: Any, gradients: list[Any],
             causal: bool, scale: float, dropout_p: float, key: Any) -> None:
    """Write dq, dk and dv (B, H, T or S, D); lse_log2 and delta are (B, H, PADDED) float32."""
    dq, dk, dv = gradients
    b, h, t, d = q.shape
    s, padded, width = k.shape[2], delta.shape[2], block_d(d)
    total = array_module(q).empty((b * h * padded, d), "float32")
    lse_log2, delta = (a.reshape(b * h, padded) for a in (lse_log2, delta))
    numbers = (*split_key(key if dropout_p else None), dropout_threshold(dropout_p),
               1.0 / (1.0 - dropout_p), scale, scale * LOG2_E, t, s, padded, *element_strides(dk))

    def run(chosen: Config) -> None:
        block_m, block_n = chosen["BLOCK_M"], chosen["BLOCK_N"]
        queries = [Descriptor(a, (1, 1, block_m, width)) for a in (q, do)]
        keys = [Descriptor(a, (1, 1, block_n, width)) for a in (k, v)]
        rows = [Descriptor(a, (1, block_m)) for a in (lse_log2, delta)]
        total.fill(0)
        launch(attention_backward_one_pass_kernel, (cdiv(s, block_n), h, b), *queries, *keys, *rows,
               Descriptor(total, (block_m, width)), dk, dv, *numbers, D=d, BLOCK_D=width,
               CAUSAL=causal, DROPOUT=dropout_p > 0.0, **chosen)

    sizes = (d, str(q.dtype), causal, dropout_p > 0.0, next_power_of_2(t), next_power_of_2(s))
    choose_and_run("attention_backward_one_pass", sizes, one_pass_configs(q, dropout_p > 0.0), q,
                   run)
    rows_each = CONVERTED // width
    launch(attention_backward_convert_kernel, (cdiv(t, rows_each), h, b), total, dq, scale, t,
           padded, *element_strides(dq), D=d, BLOCK_D=width, BLOCK_M=rows_each)
