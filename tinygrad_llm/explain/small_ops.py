"""Run a model in small ops: each fused op replaced by the formula it was derived from.

A fused op is one node of the graph, and its backward was derived by hand. The registry keeps the
same function composed of simple ops next to it; inside ``with small_ops():`` those run instead, so
that a trace shows what attention or layer norm consist of, and the gradients can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.registry import REGISTRY, get_op
from tinygrad_llm.autograd.scoped import Scoped


class small_ops(Scoped):
    """Inside, fused ops run as their composition of simple ops, in a scope of their own name.

    Args:
        keep: names of ops that stay fused.

    Raises:
        ConfigError: ``keep`` names an op that does not exist.
    """

    place = current
    setting = "composed"

    def __init__(self, keep: Collection[str] = ()) -> None:
        for name in keep:
            get_op(name)
        self.composed = {
            op.name: op.composed
            for op in REGISTRY.values()
            if op.composed is not None and op.name not in keep
        }

    def inside(self, outside: Mapping[str, Callable[..., Any]]) -> Mapping[str, Callable[..., Any]]:
        return {**outside, **self.composed}
