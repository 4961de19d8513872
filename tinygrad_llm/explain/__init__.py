"""Looking inside: what an op does, what happened to a gradient, pictures of a model.

    tg.explain("gelu")                 # formula, derivation, source, numbers, live check, plot
    tg.explore(trace, "step.html")     # a page on which a real training step can be walked through
    tg.graph(loss).save("graph.svg")   # the recorded graph
    tg.explain.pictures                # attention, gradients, loss landscape, embeddings

`tg.explain` is this package, and it can be called like a function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tinygrad_llm.explain import pictures
from tinygrad_llm.explain.op.list import OpList
from tinygrad_llm.explain.op.page import Explanation, explain

__all__ = ["Explanation", "OpList", "explain", "pictures"]


class _CallablePackage(ModuleType):
    """Lets ``tg.explain(...)`` be a call while ``tg.explain.pictures`` is still a module."""

    def __call__(self, name: str | None = None) -> Any:
        return explain(name)


sys.modules[__name__].__class__ = _CallablePackage
