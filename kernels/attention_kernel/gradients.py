"""The gradients of attention on arrays: in one pass where that can be, else by a pair of kernels.

The kernels are in backward_one_pass.py and backward.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._checks import (
    checked_by,
    out_or_new,
    require_dropout,
    require_float,
    require_out,
    require_same_device,
    require_shape,
)
from .._common import dropout_threshold, split_key
from .._runtime import array_module, cdiv, launch, next_power_of_2
from .._types import Array, Key
from ..tuning import Config
from .backward import (
    ROW_PADDING,
    attention_backward_keys_kernel,
    attention_backward_queries_kernel,
    attention_backward_rows_kernel,
)
from .backward_one_pass import one_pass, why_not_one_pass
from .configs import choose_and_run, configs
from .heads import (
    LOG2_E,
    aligned,
    as_heads,
    block_d,
    check_attention,
    check_qkv,
    element_strides,
    split_heads,
    unit_last_stride,
)

Triple = tuple[Array, Array, Array]


def _backward(dy: Array, q: Array, k: Array, v: Array, y: Array, logsum: Array, gradients: Triple,
              causal: bool, scale: float | None, dropout_p: float, key: Key | None,
              deterministic: bool) -> None:
    """Launch on checked arrays (B, H, T, D) of any strides; writes dq, dk and dv."""
    d = q.shape[3]
    scale = d**-0.5 if scale is None else scale
    targets = [aligned(a, copy=False) for a in gradients]
    dy, q, k, v, y = (aligned(a) for a in (dy, q, k, v, y))
    pair = deterministic or why_not_one_pass(dy, q, k, v) is not None
    launch_gradients = _pair if pair else one_pass
    launch_gradients(dy, q, k, v, *_rows(dy, y, logsum), targets, causal, scale, dropout_p, key)
    for gradient, target in zip(gradients, targets, strict=True):
        if target is not gradient:
            gradient[...] = target[..., :d]


def _pair(dy: Array, q: Array, k: Array, v: Array, logsum_log2: Array, delta: Array,
          gradients: Sequence[Array], causal: bool, scale: float, dropout_p: float,
          key: Key | None) -> None:
    """Two kernels on aligned arrays, one for dK and dV, one for dQ: the same bits every time."""
    dq, dk, dv = gradients
    b, h, t, d = q.shape
    s = k.shape[2]
    device_key, k0, k1 = split_key(key if dropout_p else None)
    arrays = (q, k, v, dy, logsum_log2, delta)
    numbers = (device_key, k0, k1, dropout_threshold(dropout_p), 1.0 / (1.0 - dropout_p), scale,
               scale * LOG2_E, t, s, delta.shape[2], *element_strides(q), *element_strides(k),
               *element_strides(v), *element_strides(dy))
    constants = {"D": d, "CAUSAL": causal, "DROPOUT": dropout_p > 0.0}

    def run_keys(chosen: Config) -> None:
        programs = cdiv(s, chosen["BLOCK_N"]) * cdiv(d, chosen["CHUNK"])
        launch(attention_backward_keys_kernel, (programs, h, b), *arrays, dk, dv, *numbers,
               *element_strides(dk), **constants, **chosen)

    def run_queries(chosen: Config) -> None:
        programs = cdiv(t, chosen["BLOCK_M"]) * cdiv(d, chosen["CHUNK"])
        launch(attention_backward_queries_kernel, (programs, h, b), *arrays, dq, *numbers,
               *element_strides(dq), **constants, **chosen)

    sizes = (d, str(q.dtype), causal, dropout_p > 0.0, next_power_of_2(t), next_power_of_2(s))
    for name, run in (("keys", run_keys), ("queries", run_queries)):
        tiles = configs(name, q, dropout_p > 0.0)
        choose_and_run(f"attention_backward_{name}", sizes, tiles, q, run)


def _rows(dy: Array, y: Array, logsum: Array) -> tuple[Array, Array]:
    """logsum in units of log2 and delta, (B, H, PADDED) float32."""
    b, h, t, d = y.shape
    padded = cdiv(t, ROW_PADDING) * ROW_PADDING
    logsum_log2, delta = array_module(y).empty((2, b, h, padded), "float32")
    rows = max(16, min(ROW_PADDING, 4096 // block_d(d)))
    launch(attention_backward_rows_kernel, (padded // rows, h, b), y, dy, logsum, logsum_log2,
           delta, t, padded, *element_strides(y), *element_strides(dy), D=d, BLOCK_D=block_d(d),
           BLOCK_M=rows, max_registers=255)
    return logsum_log2, delta


def _check(dy: Array, q: Array, k: Array, v: Array, y: Array, logsum: Array, causal: bool = False,
           scale: float | None = None, dropout_p: float = 0.0, key: Key | None = None,
           deterministic: bool = False) -> None:
    check_attention(q, k, v, scale)
    require_dropout(dropout_p, key)
    require_float(dy=dy, y=y)
    require_same_device(q, dy=dy, y=y, logsum=logsum)
    require_shape(q.shape, dy=dy, y=y)
    require_shape(q.shape[:3], logsum=logsum)


@checked_by(_check)
def attention_backward(dy: Array, q: Array, k: Array, v: Array, y: Array, logsum: Array,
                       causal: bool = False, scale: float | None = None, dropout_p: float = 0.0,
                       key: Key | None = None, deterministic: bool = False) -> Triple:
    """(dq, dk, dv) of attention, from its output y and its logsum.

    dy, q, y: (B, H, T, D); k, v: (B, H, S, D); logsum: (B, H, T); the rest as in the forward pass
    deterministic: the same bits in every run. Without it dq is added up in any order where one pass
        can be had (why_not_one_pass tells), with 5 matrix products in place of 7.
    """
    dy, q, k, v, y = (unit_last_stride(a) for a in (dy, q, k, v, y))
    xp = array_module(q)
    gradients = (xp.empty(q.shape, q.dtype), xp.empty(k.shape, k.dtype), xp.empty(v.shape, v.dtype))
    _backward(dy, q, k, v, y, logsum, gradients, causal, scale, dropout_p, key, deterministic)
    return gradients


def _check_qkv(dy: Array, qkv: Array, y: Array, logsum: Array, n_head: int, causal: bool = True,
               dropout_p: float = 0.0, key: Key | None = None, out: Array | None = None,
               deterministic: bool = False) -> None:
    check_qkv(qkv, n_head)
    require_dropout(dropout_p, key)
    b, t, width = qkv.shape
    require_float(dy=dy, y=y)
    require_same_device(qkv, dy=dy, y=y, logsum=logsum)
    require_shape((b, t, width // 3), dy=dy, y=y)
    require_shape((b, n_head, t), logsum=logsum)
    require_out(out, qkv.shape, qkv)


@checked_by(_check_qkv)
def attention_qkv_backward(dy: Array, qkv: Array, y: Array, logsum: Array, n_head: int,
                           causal: bool = True, dropout_p: float = 0.0, key: Key | None = None,
                           out: Array | None = None, deterministic: bool = False) -> Array:
    """dqkv (B, T, 3 C) of attention_qkv, from its output y (B, T, C) and its logsum.

    deterministic: as in attention_backward
    """
    dy, qkv, y = (unit_last_stride(a) for a in (dy, qkv, y))
    dqkv = out_or_new(out, qkv.shape, qkv)
    _backward(as_heads(dy, n_head), *split_heads(qkv, n_head), as_heads(y, n_head), logsum,
              split_heads(dqkv, n_head), causal, None, dropout_p, key, deterministic)
    return dqkv
