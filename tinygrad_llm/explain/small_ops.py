"""Run a model in small ops: each fused op replaced by the formula it was derived from.

A fused op is one node of the graph, and its backward was derived by hand. The registry keeps the
same function composed of simple ops next to it; inside ``with small_ops():`` those run instead, so
that a trace shows what attention or layer norm consist of, and the gradients can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from tinygrad_llm.autograd.modes import state
from tinygrad_llm.autograd.registry import OPS, REGISTRY, get_op


@contextmanager
def small_ops(keep: Collection[str] = ()) -> Iterator[None]:
    """Inside, fused ops run as their composition of simple ops, in a scope of their own name.

    Args:
        keep: names of ops that stay fused.

    Raises:
        ConfigError: ``keep`` names an op that does not exist.
    """
    for name in keep:
        get_op(name)
    before = dict(OPS)
    for op in REGISTRY.values():
        if op.composed is not None and op.name not in keep:
            OPS[op.name] = _scoped(op.name, op.composed)
    try:
        yield
    finally:
        OPS.update(before)


def _scoped(name: str, composed: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        outer = state.scopes
        state.scopes = (*outer, name)
        try:
            return composed(*args, **kwargs)
        finally:
            state.scopes = outer

    return run

