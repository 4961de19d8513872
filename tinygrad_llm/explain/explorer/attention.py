"""Where attention looks, for display: the fused ops keep no such matrix, so it is computed again.

The numbers are the engine's own: the op's composed form runs on the values that went into the op,
and the input and result of its softmax are taken.
"""

from __future__ import annotations

import inspect

import numpy as np

from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.autograd.trace import trace
from tinygrad_llm.autograd.trace.records import OpRecord

_LEFT_OUT = ("dropout_p", "key")  # the weights are those before dropout


def displayed_attention(op: OpRecord) -> tuple[np.ndarray, np.ndarray] | None:
    """Of an attention op: the weights (B, H, T, S), and True (T, S) where a key is hidden.

    None of another op, and where the values were not kept.
    """
    composed = REGISTRY[op.name].composed if op.name in REGISTRY else None
    if op.values is None or composed is None or REGISTRY[op.name].family != "attention":
        return None
    known = inspect.signature(composed).parameters.keys() - _LEFT_OUT
    arrays = {i.name: x for i, x in zip(op.inputs, op.values.inputs, strict=True)}
    options = {name: value for name, value in op.options.items() if name in known}
    tensors = {name: Tensor(x) for name, x in arrays.items() if name in known}
    with no_grad(), trace(values=True) as t:
        composed(**tensors, **options)
    softmax = next((o.values for o in t.ops if o.name == "softmax" and o.values), None)
    if softmax is None:
        return None
    return softmax.outputs[0], np.isneginf(softmax.inputs[0])
