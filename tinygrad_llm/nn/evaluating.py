"""Evaluation mode for a while: what ``with model.evaluating():`` enters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad_llm.nn.module import Module


class Evaluating:
    """Inside, a module and all below it are in evaluation mode; afterwards each is as it was.

    It may be entered again, inside itself too: the modules are looked up once, when it is made,
    which counts where it is entered for every token.
    """

    def __init__(self, module: Module) -> None:
        self._modules = list(module.modules())
        self._were_training: list[list[Module]] = []  # one list for each time it is entered

    def __enter__(self) -> None:
        training = [module for module in self._modules if module.training]
        self._were_training.append(training)
        for module in training:
            module.training = False

    def __exit__(self, *error: object) -> None:
        for module in self._were_training.pop():
            module.training = True
