"""What may be assigned to a module under which name: everything else would be lost in silence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.hooks import Hooks
from tinygrad_llm.nn.parameter import Parameter


def check_assignment(owner: object, name: str, value: object, buffers: Collection[str]) -> None:
    """Raise a ConfigError unless ``owner.name = value`` means what it looks like.

    Args:
        owner: the module.
        name, value: of the attribute.
        buffers: names that the module keeps as buffers.
    """
    if isinstance(value, (list, tuple, Mapping)):
        _refuse_modules_in_container(owner, name, value)
    if value is None:
        return
    if isinstance(vars(owner).get(name), Parameter) and not isinstance(value, Parameter):
        raise ConfigError(
            f"{type(owner).__name__}.{name}: expected a Parameter or None, got "
            f"{type(value).__name__}. To change the values write {name}.copy_(values) "
            "inside tg.no_grad()."
        )
    if name in buffers and not isinstance(value, Tensor):
        raise ConfigError(
            f"{type(owner).__name__}.{name}: this buffer takes a Tensor or None, got "
            f"{type(value).__name__}. Wrap the values in tg.tensor(...)."
        )


def check_new_buffer(owner: object, name: str, value: object, buffers: Collection[str]) -> None:
    """Raise a ConfigError unless ``value`` can become a buffer called ``name``."""
    check_name(owner, name)
    if name not in buffers and hasattr(owner, name):
        raise ConfigError(
            f"{type(owner).__name__}.register_buffer: there is an attribute {name!r} already. "
            "Choose another name."
        )
    if value is not None and not isinstance(value, Tensor):
        raise ConfigError(
            f"{type(owner).__name__}.register_buffer: {name!r} must be a Tensor or None, got "
            f"{type(value).__name__}. Wrap the values in tg.tensor(...)."
        )


def check_name(owner: object, name: object) -> str:
    """The name, if paths such as "blocks.0" can be made of it.

    Raises:
        ConfigError: not text, empty, or with a dot.
    """
    if not isinstance(name, str) or not name or "." in name:
        raise ConfigError(
            f"{type(owner).__name__}: a name is text without dots and not empty, got {name!r}."
        )
    return name


def _refuse_modules_in_container(
    owner: object, name: str, container: Iterable[object] | Mapping[object, object]
) -> None:
    by_name = isinstance(container, Mapping)
    values: Iterable[object] = container.values() if isinstance(container, Mapping) else container
    # Every module has hooks, and nothing else has.
    if any(isinstance(value, (Hooks, Parameter)) for value in values):
        kind = ("dict", "nn.ModuleDict") if by_name else ("list", "nn.ModuleList")
        raise ConfigError(
            f"{type(owner).__name__}.{name}: modules or parameters in a plain {kind[0]} would not "
            f"be found by parameters() and state_dict(). Use {kind[1]}, or one attribute each."
        )
