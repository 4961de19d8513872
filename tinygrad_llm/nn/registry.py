"""Models by name: how a saved folder, or a command line, says which class to build.

A folder holds a name, never code. The class of that name must have been registered by a module that
the reader imported:

    @tg.nn.register_model("tiny-llama", LlamaConfig)
    class TinyLlama(tg.nn.Module):
        def __init__(self, config: LlamaConfig) -> None:
            self.config = config
            ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar

from tinygrad_llm.errors import ConfigError, did_you_mean
from tinygrad_llm.gpt_config import GPTConfig
from tinygrad_llm.nn.module import Module

C = TypeVar("C", bound=type[Module])
_NEEDED = ("vocab_size", "context_length")


@dataclass(frozen=True)
class Kind:
    """A registered class: its model is ``model(config(**values))``."""

    name: str
    model: type[Module]
    config: type[Any]

    def config_of(self, values: Mapping[str, object]) -> Any:
        """A configuration of these values.

        Raises:
            ConfigError: a name is unknown or missing, or a value makes no sense.
        """
        known = {item.name for item in fields(self.config)}
        missing = [n for n in self.required() if n not in values]
        unknown = [n for n in values if n not in known]
        if missing or unknown:
            raise ConfigError(
                f"{self.config.__name__}: missing settings: {', '.join(missing) or 'none'}; "
                f"unknown: {', '.join(unknown) or 'none'}. The class has {', '.join(sorted(known))}"
                ". Give a setting that was added later a default."
            )
        return self.config(**values)

    def build(self, config: Any) -> Module:
        """A new model."""
        return self.model(config)  # type: ignore[call-arg]

    def required(self) -> list[str]:
        """Names of the settings without a default."""
        return [
            item.name
            for item in fields(self.config)
            if item.default is MISSING and item.default_factory is MISSING
        ]


_KINDS: dict[str, Kind] = {}


def register_model(name: str, config: type[Any] = GPTConfig) -> Callable[[C], C]:
    """Class decorator: `save_model`, `load_model` and ``tinygrad-llm train --model`` know a name.

    The class takes its configuration as the only argument that it needs, and keeps it as
    ``self.config``. Everything of the model that is no parameter or buffer must follow from it.

    Args:
        name: letters, digits, ``-`` and ``_``.
        config: a dataclass with ``vocab_size``, ``context_length`` and what else the model needs,
            in JSON's types: `GPTConfig`, a subclass of it, or one's own.

    Raises:
        ConfigError: the name is taken or no name, or ``config`` is not such a dataclass.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise ConfigError(
            f'register_model: a name is text like "tiny-llama", got {name!r}. Write '
            '@register_model("tiny-llama") above the class.'
        )
    names = {item.name for item in fields(config)} if is_dataclass(config) else set()
    if not isinstance(config, type) or not names.issuperset(_NEEDED):
        raise ConfigError(
            f"register_model({name!r}): config must be a dataclass with vocab_size and "
            f"context_length, got {config!r}."
        )

    def enter(model: C) -> C:
        if not (isinstance(model, type) and issubclass(model, Module)):
            raise ConfigError(f"register_model({name!r}): expected a Module class, got {model!r}.")
        before = _KINDS.get(name)
        if before is not None and _path(before.model) != _path(model):  # a cell run again is
            raise ConfigError(
                f"register_model({name!r}): {_path(before.model)} has this name already. Choose "
                "another one."
            )
        _KINDS[name] = Kind(name, model, config)
        return model

    return enter


def kind_named(name: str) -> Kind:
    """The class that is registered under a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _KINDS:
        hint = did_you_mean(name, _KINDS)
        raise ConfigError(
            f"no model {name!r} is registered here.{hint} Known: {', '.join(_KINDS)}. Import the "
            f'module that has @register_model("{name}") first; on a command line: --import FILE.py.'
        )
    return _KINDS[name]


def kind_of(model: Module | type[Module]) -> Kind | None:
    """The entry of a model's very class; None where it has none."""
    cls = model if isinstance(model, type) else type(model)
    return next((kind for kind in reversed(_KINDS.values()) if kind.model is cls), None)


def new_model(name: str, settings: Mapping[str, object]) -> Module:
    """A model of a registered class, with those of the settings that its configuration knows.

    Raises:
        ConfigError: there is no such name, a setting is missing, or a value makes no sense.
    """
    kind = kind_named(name)
    known = {item.name for item in fields(kind.config)}
    return kind.build(kind.config_of({k: v for k, v in settings.items() if k in known}))


def _path(cls: type[Module]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
