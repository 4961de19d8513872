"""The gradients of attention on arrays; the kernels are in attention_backward_kernel.py."""

from __future__ import annotations

from typing import Any

from ._attention_common import (
    LOG2_E,
    as_heads,
    block_d,
    check_attention,
    check_qkv,
    config,
    element_strides,
    fitting,
    split_heads,
    unit_last_stride,
)
from ._checks import checked_by, output, require_float, require_same_device, require_shape
from ._common import dropout_threshold, split_key
from ._runtime import array_module, capability, cdiv, is_host, launch, next_power_of_2
from .attention_backward_kernel import (
    attention_backward_keys_kernel,
    attention_backward_queries_kernel,
    delta_kernel,
)
from .tuning import Config, choose

Triple = tuple[Any, Any, Any]


def _key_candidates(q: Any) -> list[Config]:
    """For dK and dV; the first is the default and spills on no chip of the catalog."""
    hopper = capability(q) == 90
    if q.itemsize == 4:
        return [config(32, 32, 8, 1), config(16, 16, 4, 1)]
    if block_d(q.shape[3]) <= 64:
        best = config(64, 128, 8, 2) if hopper else config(64, 64, 8, 2)
        return [best, config(64, 64, 4, 2), config(32, 128, 8, 2), config(32, 64, 4, 2)]
    if block_d(q.shape[3]) == 128:
        best = config(32, 128, 8, 2) if hopper else config(64, 64, 8, 2)
        return [best, config(64, 128, 8, 2), config(32, 64, 8, 2), config(32, 64, 4, 1)]
    return [config(32, 32, 8, 1), config(32, 64, 8, 2), config(16, 32, 4, 1)]


def _query_candidates(q: Any) -> list[Config]:
    """For dQ; the first is the default and spills on no chip of the catalog."""
    hopper = capability(q) == 90
    if q.itemsize == 4:
        return [config(64, 32, 8, 1), config(32, 32, 8, 1), config(16, 16, 4, 1)]
    if block_d(q.shape[3]) <= 64:
        best = config(128, 64, 8, 2) if hopper else config(64, 64, 4, 2)
        return [best, config(128, 64, 8, 3), config(128, 32, 8, 2), config(64, 32, 4, 2)]
    if block_d(q.shape[3]) == 128:
        best = config(128, 64, 8, 2) if hopper else config(64, 64, 8, 2)
        return [best, config(128, 32, 8, 2), config(64, 32, 8, 2), config(64, 32, 4, 1)]
    return [config(32, 32, 8, 1), config(64, 32, 8, 2), config(32, 16, 4, 1)]


def _backward(do: Any, q: Any, k: Any, v: Any, o: Any, lse: Any, gradients: Triple, causal: bool,
              scale: float | None, dropout_p: float, key: Any) -> None:
    """Launch on checked arrays (B, H, T, D) of any strides; writes dq, dk and dv."""
    dq, dk, dv = gradients
    b, h, t, d = q.shape
    s = k.shape[2]
    scale = d**-0.5 if scale is None else scale
    delta = array_module(q).empty((b, h, t), "float32")
    launch(delta_kernel, (cdiv(t, 64), h, b), o, do, delta, t, *element_strides(o),
           *element_strides(do), D=d, BLOCK_D=block_d(d), BLOCK_M=64)
    device_key, k0, k1 = split_key(key if dropout_p else None)
    dropout = (device_key, k0, k1, dropout_threshold(dropout_p), 1.0 / (1.0 - dropout_p))
    numbers = (*dropout, scale, scale * LOG2_E, t, s, *element_strides(q), *element_strides(k),
               *element_strides(v), *element_strides(do))
    constants = {"D": d, "BLOCK_D": block_d(d), "CAUSAL": causal, "DROPOUT": dropout_p > 0.0}

    def run_keys(chosen: Config) -> None:
        launch(attention_backward_keys_kernel, (cdiv(s, chosen["BLOCK_N"]), h, b), q, k, v, do,
               lse, delta, dk, dv, *numbers, *element_strides(dk), **constants, **chosen)

    def run_queries(chosen: Config) -> None:
        launch(attention_backward_queries_kernel, (cdiv(t, chosen["BLOCK_M"]), h, b), q, k, v, do,
               lse, delta, dq, *numbers, *element_strides(dq), **constants, **chosen)

    sizes = (d, str(q.dtype), causal, dropout_p > 0.0, next_power_of_2(t), next_power_of_2(s))
    for name, run, candidates in (
        ("attention_backward_keys", run_keys, fitting(_key_candidates(q), q, "keys")),
        ("attention_backward_queries", run_queries, fitting(_query_candidates(q), q, "rows")),
    ):
        best = candidates[0]
        run(best if is_host(q) else choose(name, sizes, candidates, best, run))


def _check(do: Any, q: Any, k: Any, v: Any, o: Any, lse: Any, causal: bool = False,
           scale: float | None = None, dropout_p: float = 0.0, key: Any = None) -> None:
    name = "attention_backward"
    check_attention(name, q, k, v, scale, dropout_p, key)
    require_float(name, do=do, o=o)
    require_same_device(name, q, do=do, o=o, lse=lse)
    require_shape(name, q.shape, do=do, o=o)
    require_shape(name, q.shape[:3], lse=lse)


@checked_by(_check)
def attention_backward(do: Any, q: Any, k: Any, v: Any, o: Any, lse: Any, causal: bool = False,
                       scale: float | None = None, dropout_p: float = 0.0,
                       key: Any = None) -> Triple:
    """(dq, dk, dv) of attention, from its output o and its lse.

    do, q, o: (B, H, T, D); k, v: (B, H, S, D); lse: (B, H, T); the rest as in the forward pass
    """
    _check(do, q, k, v, o, lse, causal, scale, dropout_p, key)
    do, q, k, v, o = (unit_last_stride(a) for a in (do, q, k, v, o))
    xp = array_module(q)
    gradients = (xp.empty(q.shape, q.dtype), xp.empty(k.shape, k.dtype), xp.empty(v.shape, v.dtype))
    _backward(do, q, k, v, o, lse, gradients, causal, scale, dropout_p, key)
    return gradients


def _check_qkv(dy: Any, qkv: Any, y: Any, lse: Any, n_head: int, causal: bool = True,
               dropout_p: float = 0.0, key: Any = None, out: Any = None) -> None:
    name = "attention_qkv_backward"
    check_qkv(name, qkv, n_head, dropout_p, key)
    b, t, width = qkv.shape
    require_float(name, dy=dy, y=y)
    require_same_device(name, qkv, dy=dy, y=y, lse=lse)
    require_shape(name, (b, t, width // 3), dy=dy, y=y)
    require_shape(name, (b, n_head, t), lse=lse)


@checked_by(_check_qkv)
def attention_qkv_backward(dy: Any, qkv: Any, y: Any, lse: Any, n_head: int, causal: bool = True,
                           dropout_p: float = 0.0, key: Any = None, out: Any = None) -> Any:
    """dqkv (B, T, 3 C) of attention_qkv, from its output y (B, T, C) and its lse."""
    _check_qkv(dy, qkv, y, lse, n_head, causal, dropout_p, key)
    dy, qkv, y = (unit_last_stride(a) for a in (dy, qkv, y))
    dqkv = output(out, "attention_qkv_backward", qkv.shape, qkv)
    _backward(as_heads(dy, n_head), *split_heads(qkv, n_head), as_heads(y, n_head), lse,
              split_heads(dqkv, n_head), causal, None, dropout_p, key)
    return dqkv
