"""Modules that hold others: by number, by name, or as a chain of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.function_call import FunctionCall
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.registration import check_name

L = TypeVar("L", bound="ModuleList")
Step = Module | Callable[[Any], Any]


class _Container(Module):
    """What all have in common: they are not called, so their items carry the name in front."""

    def _put(self, name: str, module: object) -> None:
        if not isinstance(module, Module):
            raise ConfigError(
                f"{type(self).__name__}: expected a Module, got {type(module).__name__}."
            )
        check_name(self, name)
        if hasattr(type(self), name):
            raise ConfigError(
                f"{type(self).__name__}: {name!r} is a method of its own. Choose another name."
            )
        setattr(self, name, module)
        self._set_label(self._label)

    def _set_label(self, label: str) -> None:
        super()._set_label(label)
        for name, child in self.named_children():
            child._set_label(f"{label}.{name}" if label else name)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())


class ModuleList(_Container):
    """Modules by number; they are registered under the names "0", "1", ...

    A ModuleList is not called itself: its owner's ``forward`` goes through it.

    Raises:
        ConfigError: something that is not a Module is put in.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self: L, module: Module) -> L:
        """Add a module at the end; returns the list."""
        self._put(str(len(self)), module)
        return self

    def extend(self: L, modules: Iterable[Module]) -> L:
        """Add several at the end; returns the list."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module in front of number ``index``; those behind it get the next numbers."""
        modules = list(self)
        modules.insert(index, module)
        self._renew(modules)

    def pop(self, index: int = -1) -> Module:
        """Take out number ``index`` and return it; those behind it get the numbers before."""
        module = self[index]
        del self[index]
        return module

    def _renew(self, modules: list[Module]) -> None:
        for name, _ in list(self.named_children()):
            delattr(self, name)
        self.extend(modules)

    def __iadd__(self: L, modules: Iterable[Module]) -> L:
        return self.extend(modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Any:
        """A module, or a list of the same kind with the modules of a slice."""
        found = list(self.children())[index]
        return self._of(found) if isinstance(found, list) else found

    def _of(self, modules: list[Module]) -> ModuleList:
        return ModuleList(modules)

    def __setitem__(self, index: int, module: Module) -> None:
        self._put([name for name, _ in self.named_children()][index], module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renew(modules)


class Sequential(ModuleList):
    """Modules called one after the other, each on the result of the one before.

        Sequential(Linear(2, 8), tg.nn.functional.gelu, Linear(8, 1))

    Args:
        modules: in the order of their calls, or one dict of them by name. A function of one
            argument is kept as a `FunctionCall`.
    """

    def __init__(self, *modules: Step | Mapping[str, Step]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self._put(name, module)
        else:
            super().__init__(modules)  # type: ignore[arg-type]

    def _put(self, name: str, module: object) -> None:
        super()._put(name, module if isinstance(module, Module) else FunctionCall(module))  # type: ignore[arg-type]

    def _set_label(self, label: str) -> None:
        Module._set_label(self, label)
        for name, child in self.named_children():
            child._set_label(name)

    def _of(self, modules: list[Module]) -> Sequential:
        return Sequential(*modules)

    def forward(self, x: Any) -> Any:
        """The last module's result."""
        for module in self:
            x = module(x)
        return x


class ModuleDict(_Container):
    """Modules by name: ``parts["norm"]`` and ``parts.norm`` are the same.

    A ModuleDict is not called itself: its owner's ``forward`` picks from it.

    Args:
        modules: name -> module.

    Raises:
        ConfigError: something that is not a Module is put in, or a name has a dot or is that of
            a method.
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace several."""
        for name, module in modules.items():
            self[name] = module

    def keys(self) -> Iterable[str]:
        """The names, in the order in which they came."""
        return dict(self.named_children()).keys()

    def values(self) -> Iterable[Module]:
        """The modules, in that order."""
        return dict(self.named_children()).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module) pairs, in that order."""
        return dict(self.named_children()).items()

    def pop(self, name: str) -> Module:
        """Take out a module and return it."""
        module = self[name]
        del self[name]
        return module

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in dict(self.named_children())

    def __getitem__(self, name: str) -> Module:
        if name not in self:
            raise _no_module(name, self)
        return vars(self)[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self._put(name, module)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise _no_module(name, self)
        delattr(self, name)


def _no_module(name: object, modules: ModuleDict) -> KeyError:
    return KeyError(f"ModuleDict: there is no module {name!r}; it has {', '.join(modules)}.")
