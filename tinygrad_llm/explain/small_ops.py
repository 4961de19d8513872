"""Run a model in small ops: each fused op replaced by the formula it was derived from.

A fused op is one node of the graph, and its backward was derived by hand. The registry keeps the
same function composed of simple ops next to it; inside ``with small_ops():`` those run instead, so
that a trace shows what attention or layer norm consist of, and the gradients can be compared.

The table of ops belongs to the whole process, the choice to one thread: from the first use on, an
entry of the table asks the thread that calls it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from tinygrad_llm.autograd.modes import state
from tinygrad_llm.autograd.registry import OPS, REGISTRY, get_op
from tinygrad_llm.autograd.scoped import Scoped


class _State(threading.local):
    composed: frozenset[str] = frozenset()  # names of the ops that run as small ones


_state = _State()
_choosers: dict[str, Callable[..., Any]] = {}


class small_ops(Scoped):
    """Inside, fused ops run as their composition of simple ops, in a scope of their own name.

    Args:
        keep: names of ops that stay fused.

    Raises:
        ConfigError: ``keep`` names an op that does not exist.
    """

    place = _state
    setting = "composed"

    def __init__(self, keep: Collection[str] = ()) -> None:
        for name in keep:
            get_op(name)
        fused = [op for op in REGISTRY.values() if op.composed is not None and op.name not in keep]
        for op in fused:
            if OPS[op.name] is not _choosers.get(op.name):
                OPS[op.name] = _choosers[op.name] = _chooser(op.name, OPS[op.name], op.composed)
        self.names = frozenset(op.name for op in fused)

    def inside(self, outside: frozenset[str]) -> frozenset[str]:
        return outside | self.names


def _chooser(name: str, fused: Callable[..., Any], composed: Any) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if name not in _state.composed:
            return fused(*args, **kwargs)
        outer = state.scopes
        state.scopes = (*outer, name)
        try:
            return composed(*args, **kwargs)
        finally:
            state.scopes = outer

    return run
