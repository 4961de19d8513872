"""What registering a hook checks and returns, and the hook behind ``retain_grad``."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from tinygrad_llm.errors import ConfigError


class Handle:
    """Takes a hook off again: call it, or its ``remove``, as PyTorch's; once is enough.

    Args:
        remove: what takes it off.
    """

    def __init__(self, remove: Callable[[], None]) -> None:
        self.remove = remove

    def __call__(self) -> None:
        self.remove()


def check_hook(owner: str, hook: Any) -> None:
    """Raise a ConfigError unless ``hook`` can be called."""
    if not callable(hook):
        raise ConfigError(f"{owner}: expected a function, got {type(hook).__name__}.")


class KeepGradient:
    """Adds each gradient that arrives to its tensor's ``grad``; the other hooks run before it.

    Args:
        tensor: a result. The node that made it has this hook, and must not hold its own result.
    """

    def __init__(self, tensor: Any) -> None:
        self.tensor = weakref.ref(tensor)

    def __call__(self, dy: Any) -> None:
        tensor = self.tensor()
        if tensor is not None:
            tensor.grad = dy.copy() if tensor.grad is None else tensor.grad + dy


def stop_keeping(node: Any, tensor: Any) -> bool:
    """Take the hook that keeps the gradient of ``tensor`` off its node; whether there was one."""
    hooks = [] if node is None else node.hooks or []
    left = [h for h in hooks if not (isinstance(h, KeepGradient) and h.tensor() is tensor)]
    if len(left) < len(hooks):
        node.hooks = left or None
    return len(left) < len(hooks)
