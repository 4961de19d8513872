"""Module: a part of a model that holds parameters and other modules.

Registration is an attribute assignment, as in PyTorch:

    class Block(nn.Module):
        def __init__(self) -> None:
            self.norm = nn.LayerNorm(8)          # registered, parameters "norm.weight", "norm.bias"
            self.scale = nn.Parameter([1.0])     # registered as "scale"
            self.register_buffer("mask", later)  # a constant that moves and is saved with the rest

        def forward(self, x):
            return self.norm(x) * self.scale

There is no second book-keeping: the attributes themselves, in the order of their assignment, are
the registry. Only of buffers the names are noted, to tell them from other constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.errors import ConfigError, missing_name, with_suggestion
from tinygrad_llm.nn.evaluating import Evaluating
from tinygrad_llm.nn.hooks import Hooks
from tinygrad_llm.nn.left_out import METHODS_LEFT_OUT
from tinygrad_llm.nn.moving import Moving
from tinygrad_llm.nn.parameter import Parameter
from tinygrad_llm.nn.registration import check_assignment, check_name, check_new_buffer
from tinygrad_llm.nn.state import load_arrays

M = TypeVar("M", bound="Module")
T = TypeVar("T", bound=Tensor)
Named = Iterator[tuple[str, Tensor]]


class Module(Hooks, Moving):
    """Base of all layers and models: assign parameters and modules, override ``forward``.

    Attributes:
        training: True in `train` mode, where dropout acts; False after `eval`.
    """

    training: bool = True
    _label: str = ""  # path from the calling module, for the scopes of a trace
    _buffers: Mapping[str, bool] = {}  # name -> whether state_dict has it

    # ---- registration ------------------------------------------------------------------------

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, Module):
            value._set_label(name)
        else:
            check_assignment(self, name, value, self._buffers)
        object.__setattr__(self, name, value)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep a Tensor that is not learned as ``self.name``: a causal mask, a running mean.

        It moves with `to` and is in `state_dict`, but no optimizer sees it. Another Tensor may be
        assigned to the name later.

        Args:
            name: of the attribute.
            tensor: the values, or None for a place to fill later.
            persistent: False keeps it out of `state_dict`: it is made anew with the module.

        Raises:
            ConfigError: the name is taken or no name, or the value is not a Tensor.
        """
        check_new_buffer(self, name, tensor, self._buffers)
        object.__setattr__(self, "_buffers", {**self._buffers, name: persistent})
        setattr(self, name, tensor)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """``self.name = parameter``, for names that are computed."""
        setattr(self, check_name(self, name), parameter)

    def add_module(self, name: str, module: Module | None) -> None:
        """``self.name = module``, for names that are computed."""
        setattr(self, check_name(self, name), module)

    if not TYPE_CHECKING:  # a type checker goes on finding misspelt attributes

        def __getattr__(self, name: str) -> Any:
            if name in METHODS_LEFT_OUT:
                raise missing_name(type(self).__name__, name, METHODS_LEFT_OUT)
            raise with_suggestion(self, name)

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

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths; one that is shared (tied) comes once, first name.

        Args:
            prefix: stands in front of the paths.
            recurse: False for those of this module alone.
        """
        return self._members(
            prefix,
            recurse,
            lambda module: (
                (name, value)
                for name, value in vars(module).items()
                if isinstance(value, Parameter)
            ),
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Named:
        """All that `register_buffer` keeps, with their paths; arguments as `named_parameters`."""
        return self._members(
            prefix,
            recurse,
            lambda module: (
                (name, getattr(module, name))
                for name in module._buffers
                if isinstance(vars(module).get(name), Tensor)
            ),
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All that `register_buffer` keeps, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _members(
        self, prefix: str, recurse: bool, own: Callable[[Module], Iterator[tuple[str, T]]]
    ) -> Iterator[tuple[str, T]]:
        """What ``own`` finds in each module, with paths, each once."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in own(module):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

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

    def set_submodule(self, path: str, module: Module) -> None:
        """Put another module in the place of the one at ``path``.

        Raises:
            ConfigError: there is none, or ``path`` is this module itself.
        """
        replaced = self.get_submodule(path)
        if replaced is self:
            raise ConfigError(f"{type(self).__name__}: a module cannot replace itself ({path!r}).")
        owner, _, name = path.rpartition(".")
        setattr(self.get_submodule(owner), name, module)
        module._set_label(replaced._label)

    # ---- calling -----------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current.observer is not None and self._label:
            return self._observed(args, kwargs)
        if self._forward_pre_hooks or self._forward_hooks or self._backward_hooks:
            return self._with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def _observed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that somebody watches: its ops are told apart by the path of the module."""
        outer = current.scopes
        current.scopes = (*outer, self._label)
        try:
            return self._with_hooks(args, kwargs)
        finally:
            current.scopes = outer

    # ---- changing all at once ----------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Switch to training mode (dropout acts); returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Switch to evaluation mode (dropout passes everything); returns the module."""
        return self.train(False)

    def evaluating(self) -> Evaluating:
        """``with model.evaluating():`` is evaluation mode inside, and each module's own after."""
        return Evaluating(self)

    def apply(self: M, function: Callable[[Module], object]) -> M:
        """Call ``function`` on every module of the tree; returns the module."""
        for module in self.modules():
            function(module)
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze or unfreeze all parameters; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with ``set_to_none=False`` fill them with 0."""
        for parameter in self.parameters():
            parameter.zero_grad(set_to_none)

    # ---- saving and loading ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and persistent buffers by name, as constants that share their memory."""
        return {name: tensor.detach() for name, tensor in self._saved().items()}

    def _saved(self) -> dict[str, Tensor]:
        left_out = {
            _join(path, name)
            for path, module in self.named_modules()
            for name, persistent in module._buffers.items()
            if not persistent
        }
        kept = {name: b for name, b in self.named_buffers() if name not in left_out}
        return {**dict(self.named_parameters()), **kept}

    def load_state_dict(
        self, state_dict: Mapping[str, TensorLike], strict: bool = True, assign: bool = False
    ) -> tuple[list[str], list[str]]:
        """Copy values into parameters and buffers: all of them, or, on any error, none.

        Args:
            state_dict: name -> Tensor, array or nested list of the right shape.
            strict: refuse missing and unexpected names. A wrong shape is always refused.
            assign: let them take the arrays themselves where type and device allow it
                (no copy; for memory-mapped files).

        Returns:
            (missing names, unexpected names); both empty when strict.

        Raises:
            CheckpointError: the names or shapes do not fit; lists all that do not.
        """
        return load_arrays(type(self).__name__, self._saved(), state_dict, strict, assign)

    def extra_repr(self) -> str:
        """Settings to show in ``print(module)``, such as "p=0.1"; empty by default."""
        return ""

    def __repr__(self) -> str:
        from tinygrad_llm.nn.tree import describe

        return describe(self)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
