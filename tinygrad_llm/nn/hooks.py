"""Functions that a module calls on its way: before and after forward, and when a gradient comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.handles import Handle, check_hook

ForwardHook = Callable[..., Any]


class Hooks:
    """Base of Module: ``forward`` with the hooks around it."""

    _forward_pre_hooks: tuple[ForwardHook, ...] = ()
    _forward_hooks: tuple[ForwardHook, ...] = ()
    _backward_hooks: tuple[ForwardHook, ...] = ()

    forward: Callable[..., Any]

    def _with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in self._forward_pre_hooks:
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        out = self.forward(*args, **kwargs)
        for hook in self._forward_hooks:
            changed = hook(self, args, out)
            out = out if changed is None else changed
        for hook in self._backward_hooks:
            self._watch_gradient(out, hook)
        return out

    @property
    def has_hooks(self) -> bool:
        """Whether calling the module does more than its ``forward``."""
        return bool(self._forward_pre_hooks or self._forward_hooks or self._backward_hooks)

    def _watch_gradient(self, out: object, hook: ForwardHook) -> None:
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda dy: hook(self, dy))

    def register_forward_pre_hook(self, hook: ForwardHook) -> Handle:
        """Call ``hook(module, args)`` before ``forward``; it may return other arguments.

        Returns:
            what takes the hook off again.

        Raises:
            ConfigError: the hook cannot be called. (All this holds for the other two as well.)
        """
        return self._add_hook("_forward_pre_hooks", hook)

    def register_forward_hook(self, hook: ForwardHook) -> Handle:
        """Call ``hook(module, args, output)`` after ``forward``; it may return another output."""
        return self._add_hook("_forward_hooks", hook)

    def register_backward_hook(self, hook: ForwardHook) -> Handle:
        """Call ``hook(module, dy)`` with the gradient that arrives at the module's output.

        ``dy`` is an array; the hook may return another one of its shape to send on instead.
        """
        return self._add_hook("_backward_hooks", hook)

    def _add_hook(self, kind: str, hook: ForwardHook) -> Handle:
        check_hook(f"register{kind.removesuffix('s')}", hook)
        object.__setattr__(self, kind, (*getattr(self, kind), hook))

        def remove() -> None:
            left = tuple(h for h in getattr(self, kind) if h is not hook)
            object.__setattr__(self, kind, left)

        return Handle(remove)
