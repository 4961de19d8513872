"""Hooks of a Tensor: functions called with its gradient, and what takes them off again."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from tinygrad_llm.autograd.tensor_base import Hook, TensorBase
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ConfigError, GraphError

if TYPE_CHECKING:
    from typing import Self

    from tinygrad_llm.autograd.engine import Node


class Handle:
    """Takes a hook off again: call it, or its ``remove``, as PyTorch's; once is enough.

    Args:
        remove: what takes it off.
    """

    def __init__(self, remove: Callable[[], None]) -> None:
        self.remove = remove

    def __call__(self) -> None:
        self.remove()


def check_hook(owner: str, hook: object) -> None:
    """Raise a ConfigError unless ``hook`` can be called."""
    if not callable(hook):
        raise ConfigError(f"{owner}: expected a function, got {type(hook).__name__}.")


class KeepGradient:
    """Adds each gradient that arrives to its tensor's ``grad``; the other hooks run before it.

    Args:
        tensor: a result. The node that made it has this hook, and must not hold its own result.
    """

    def __init__(self, tensor: TensorBase) -> None:
        self.tensor = weakref.ref(tensor)

    def __call__(self, dy: Array) -> None:
        tensor = self.tensor()
        if tensor is not None:
            tensor.grad = dy.copy() if tensor.grad is None else tensor.grad + dy


def stop_keeping(node: Node | None, tensor: TensorBase) -> bool:
    """Take the hook that keeps the gradient of ``tensor`` off its node; whether there was one."""
    hooks = [] if node is None or node.hooks is None else node.hooks
    left = [h for h in hooks if not (isinstance(h, KeepGradient) and h.tensor() is tensor)]
    if node is not None and len(left) < len(hooks):
        node.hooks = left or None
    return len(left) < len(hooks)


class Hooks(TensorBase):
    """Base of Tensor: who sees its gradient."""

    __slots__ = ()

    def register_hook(self, hook: Hook) -> Handle:
        """Call ``hook(gradient)`` when this tensor's gradient is complete.

        The hook may return another gradient of the same shape to use instead.

        Returns:
            what takes the hook off again: call it, or its ``remove()``.

        Raises:
            ConfigError: the hook cannot be called.
            GraphError: this tensor has no gradient.
        """
        check_hook("register_hook", hook)
        if not self.requires_grad:
            raise GraphError("register_hook: this tensor has no gradient (requires_grad is off).")
        owner, name = (self, "_hooks") if self._node is None else (self._node, "hooks")
        hooks = [*(getattr(owner, name) or []), hook]
        setattr(owner, name, sorted(hooks, key=lambda h: isinstance(h, KeepGradient)))

        def remove() -> None:
            left = [h for h in (getattr(owner, name) or []) if h is not hook]
            setattr(owner, name, left or None)

        return Handle(remove)

    def retain_grad(self) -> Self:
        """Add up the gradients of an intermediate result in ``grad``, too; returns the tensor."""
        if self._node is not None:
            hooks = self._node.hooks or ()
            if not any(isinstance(hook, KeepGradient) for hook in hooks):
                self.register_hook(KeepGradient(self))
        return self
