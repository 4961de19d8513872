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

from tinygrad_llm.explain import pictures
from tinygrad_llm.explain.op.list import OpList
from tinygrad_llm.explain.op.page import Explanation, explain

__all__ = ["Explanation", "OpList", "explain", "pictures"]


class _CallablePackage(ModuleType):
    """Lets ``tg.explain("gelu")`` be a call while ``tg.explain.pictures`` is still a module."""

    def __call__(
        self, name: str | None = None, sample: int | None = None, kernel: bool = False
    ) -> Explanation | OpList:
        return explain(name, sample, kernel)


# A function called `explain` in tinygrad_llm would not do: the first import of any module in this
# package puts the package itself in its place. A module whose class has __call__ is Python's own
# way out (The Python Language Reference, "Customizing module attribute access").
sys.modules[__name__].__class__ = _CallablePackage
