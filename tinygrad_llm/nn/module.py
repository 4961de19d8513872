"""Module: a part of a model that holds parameters and other modules.

Registration is an attribute assignment, as in PyTorch:

    class Block(nn.Module):
        def __init__(self) -> None:
            self.norm = nn.LayerNorm(8)          # registered, parameters "norm.weight", "norm.bias"
            self.scale = nn.Parameter([1.0])     # registered as "scale"

        def forward(self, x):
            return self.norm(x) * self.scale

There is no second book-keeping: the attributes themselves, in the order of their assignment, are
the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.modes import state
from tinygrad_llm.backend import to_device
from tinygrad_llm.backend.dtypes import as_dtype, is_float
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.parameter import Parameter
from tinygrad_llm.nn.state import load_arrays

M = TypeVar("M", bound="Module")
ForwardHook = Callable[..., Any]
Remove = Callable[[], None]


class Module:
    """Base of all layers and models: assign parameters and modules, override ``forward``.

    Attributes:
        training: True in `train` mode, where dropout acts; False after `eval`.
    """

    training: bool = True
    _label: str = ""  # path from the calling module, for the scopes of a trace
    _forward_pre_hooks: tuple[ForwardHook, ...] = ()
    _forward_hooks: tuple[ForwardHook, ...] = ()
    _backward_hooks: tuple[ForwardHook, ...] = ()

    forward: Callable[..., Any]

    # ---- registration ------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            value._set_label(name)
        elif isinstance(value, (list, tuple)):
            _refuse_modules_in_list(self, name, value)
        elif isinstance(self.__dict__.get(name), Parameter):
            if value is not None and not isinstance(value, Parameter):
                raise ConfigError(
                    f"{type(self).__name__}.{name}: expected a Parameter or None, got "
                    f"{type(value).__name__}. To change the values write {name}.copy_(values) "
                    "inside tg.no_grad()."
                )
        object.__setattr__(self, name, value)

    def _set_label(self, label: str) -> None:
        object.__setattr__(self, "_label", label)

    # ---- walking the tree --------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules assigned to this one, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules assigned to this one."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, parents first; names such as "blocks.0"."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            below = [(_join(name, key), child) for key, child in module.named_children()]
            stack.extend(reversed(below))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths; one that is shared (tied) comes once, first name."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix):
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def num_parameters(self, trainable_only: bool = False) -> int:
        """Number of learned numbers; shared ones count once."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable_only)

    def get_submodule(self, path: str) -> Module:
        """The module at ``path``, such as ``"blocks.0.attention"``.

        Raises:
            ConfigError: there is none.
        """
        found = dict(self.named_modules()).get(path)
        if found is None:
            raise ConfigError(f"{type(self).__name__}: there is no submodule {path!r}.")
        return found

    # ---- calling -----------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.observer is None or not self._label:
            return self._call(args, kwargs)
        outer = state.scopes
        state.scopes = (*outer, self._label)
        try:
            return self._call(args, kwargs)
        finally:
            state.scopes = outer

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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

    def _watch_gradient(self, out: Any, hook: ForwardHook) -> None:
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda dy: hook(self, dy))

    def register_forward_pre_hook(self, hook: ForwardHook) -> Remove:
        """Call ``hook(module, args)`` before ``forward``; it may return other arguments.

        Returns:
            A function that removes the hook. (So do the other two.)
        """
        return self._add_hook("_forward_pre_hooks", hook)

    def register_forward_hook(self, hook: ForwardHook) -> Remove:
        """Call ``hook(module, args, output)`` after ``forward``; it may return another output."""
        return self._add_hook("_forward_hooks", hook)

    def register_backward_hook(self, hook: ForwardHook) -> Remove:
        """Call ``hook(module, dy)`` with the gradient that arrives at the module's output.

        ``dy`` is an array; the hook may return another one of its shape to send on instead.
        """
        return self._add_hook("_backward_hooks", hook)

    def _add_hook(self, kind: str, hook: ForwardHook) -> Remove:
        object.__setattr__(self, kind, (*getattr(self, kind), hook))

        def remove() -> None:
            left = tuple(h for h in getattr(self, kind) if h is not hook)
            object.__setattr__(self, kind, left)

        return remove

    # ---- changing all at once ----------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Switch to training mode (dropout acts); returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Switch to evaluation mode (dropout passes everything); returns the module."""
        return self.train(False)

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call ``function`` on every module of the tree; returns the module."""
        for module in self.modules():
            function(module)
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze or unfreeze all parameters; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self: M, device_or_dtype: Any) -> M:
        """Move all parameters and constant tensors to a device, or to a floating-point type.

        The module itself is changed and returned. Make optimizers after the move.

        Raises:
            DeviceError: the device is unknown or absent.
            DTypeError: neither a device nor a floating-point type.
        """
        convert = _converter(device_or_dtype)
        moved: set[int] = set()
        for module in self.modules():
            for value in list(vars(module).values()):
                if not isinstance(value, Tensor) or id(value) in moved:
                    continue
                moved.add(id(value))
                data = convert(value.data)
                if data is not value.data:
                    value.data = data
                    value.grad = value.grad_buffer = None
        return self

    @property
    def device(self) -> str:
        """Where the first parameter lives; ``"cpu"`` for a module without any."""
        first = next(self.parameters(), None)
        return "cpu" if first is None else first.device

    # ---- saving and loading ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters by name, as constant Tensors that share the parameters' memory."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> tuple[list[str], list[str]]:
        """Copy values into the parameters: all of them, or, on any error, none.

        Args:
            state_dict: name -> Tensor, array or nested list of the parameter's shape.
            strict: refuse missing and unexpected names. A wrong shape is always refused.
            assign: let the parameters take the arrays themselves where type and device allow it
                (no copy; for memory-mapped files).

        Returns:
            (missing names, unexpected names); both empty when strict.

        Raises:
            CheckpointError: the names or shapes do not fit; lists all that do not.
        """
        parameters = dict(self.named_parameters())
        return load_arrays(type(self).__name__, parameters, state_dict, strict, assign)

    def extra_repr(self) -> str:
        """Settings to show in ``print(module)``, such as "p=0.1"; empty by default."""
        return ""

    def __repr__(self) -> str:
        from tinygrad_llm.nn.tree import describe

        return describe(self)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse_modules_in_list(owner: Module, name: str, values: Any) -> None:
    if any(isinstance(v, (Module, Parameter)) for v in values):
        raise ConfigError(
            f"{type(owner).__name__}.{name}: modules or parameters in a plain list would not be "
            "found by parameters() and state_dict(). Use nn.ModuleList, or one attribute each."
        )


def _converter(device_or_dtype: Any) -> Callable[[Any], Any]:
    """A function that moves an array to the device, or a floating-point array to the type."""
    name = device_or_dtype
    if isinstance(name, str) and name.partition(":")[0] in ("cpu", "cuda"):
        return lambda data: to_device(data, name)
    dtype: np.dtype = as_dtype(name)
    if not is_float(dtype):
        raise ConfigError(f"to: modules need a floating-point type, got {dtype}.")
    return lambda data: data.astype(dtype, copy=False) if is_float(data.dtype) else data
