"""The engine: Tensor, Function, the backward walk, and the tools that check and watch it."""

from tinygrad_llm.autograd.engine import Gradients
from tinygrad_llm.autograd.function import Function
from tinygrad_llm.autograd.modes import (
    deterministic,
    enable_grad,
    is_grad_enabled,
    no_grad,
    use_kernels,
)
from tinygrad_llm.autograd.registry import (
    REGISTRY,
    Sample,
    arguments_of,
    get_op,
    prove,
    register,
    sample,
    true_gradient,
)
from tinygrad_llm.autograd.tensor import Tensor, tensor

__all__ = [
    "REGISTRY",
    "Function",
    "Gradients",
    "Sample",
    "Tensor",
    "arguments_of",
    "deterministic",
    "enable_grad",
    "get_op",
    "is_grad_enabled",
    "no_grad",
    "prove",
    "register",
    "sample",
    "tensor",
    "true_gradient",
    "use_kernels",
]
