"""Lists of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.module import Module


class ModuleList(Module):
    """Modules by number; they are registered under the names "0", "1", ...

    A ModuleList is not called itself: its owner's ``forward`` goes through it.

    Raises:
        ConfigError: something that is not a Module is put in.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        self._put(len(self), module)

    def _put(self, index: int, module: Module) -> None:
        if not isinstance(module, Module):
            raise ConfigError(
                f"{type(self).__name__}: expected a Module, got {type(module).__name__}."
            )
        setattr(self, str(index), module)
        self._set_label(self._label)

    def _set_label(self, label: str) -> None:
        # The list is never called, so its items carry its name in front of their number.
        super()._set_label(label)
        for name, child in self.named_children():
            child._set_label(f"{label}.{name}" if label else name)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int) -> Module:
        return list(self.children())[index]

    def __setitem__(self, index: int, module: Module) -> None:
        self._put(range(len(self))[index], module)


class Sequential(ModuleList):
    """Modules called one after the other, each on the result of the one before.

    Args:
        modules: in the order of their calls.
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def _set_label(self, label: str) -> None:
        Module._set_label(self, label)
        for name, child in self.named_children():
            child._set_label(name)

    def forward(self, x: Any) -> Any:
        """The last module's result."""
        for module in self:
            x = module(x)
        return x
