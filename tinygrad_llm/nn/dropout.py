"""Dropout."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend.random import Generator, Key, default_generator
from tinygrad_llm.checks import check_dropout
from tinygrad_llm.nn.module import Module


class Dropout(Module):
    """In training, each element is set to 0 with probability p, the others divided by 1 - p.

    Args:
        p: probability of dropping an element.
        generator: where each call's key comes from; by default the one of `tg.manual_seed`, the
            only one that `tg.checkpoint` puts back for its second pass.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 2014.

    Raises:
        ConfigError: p is not in [0, 1).
    """

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        self.p = check_dropout("Dropout", "p", p)
        self.generator = generator

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"p={self.p}"

    @property
    def active(self) -> bool:
        """Whether a call drops anything."""
        return self.training and self.p > 0

    def next_key(self) -> Key:
        """The key of the next mask."""
        return (self.generator or default_generator()).next_key()

    def forward(self, x: Tensor) -> Tensor:
        """x (...) -> (...); x itself where nothing is dropped."""
        if not self.active:
            return x
        return F.dropout(x, self.p, training=True, key=self.next_key())


def set_dropout(model: Module, p: float) -> None:
    """Change the probability of dropout everywhere in a model, and in its configuration.

    Raises:
        ConfigError: p is not a number of [0, 1).
    """
    p = check_dropout(type(model).__name__, "dropout", p)
    config = getattr(model, "config", None)
    if is_dataclass(config) and any(item.name == "dropout" for item in fields(config)):
        model.config = replace(config, dropout=p)  # type: ignore[type-var]
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = p
