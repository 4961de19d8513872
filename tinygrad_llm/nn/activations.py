"""Functions without parameters as modules, for use in `Sequential`.

Each calls the function of its name; formula and derivative stand in the op's file under ``ops/``.
"""

from __future__ import annotations

from typing import TypeVar

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.keywords import both_names
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.module import Module

T = TypeVar("T")


class ReLU(Module):
    """max(x, 0).

    Args:
        inplace: without effect: an op does not overwrite its input.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: TensorLike) -> Tensor:
        """x (...) -> (...)."""
        return F.relu(x)


class GELU(Module):
    """Gaussian error linear unit.

    Args:
        approximate: ``"none"`` for the exact one, as PyTorch's module; ``"tanh"`` for GPT-2's
            approximation, which `functional.gelu` takes by default. They differ by up to 5e-4.

    Raises:
        ConfigError: another form.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ConfigError(f'GELU: approximate must be "none" or "tanh", got {approximate!r}.')
        self.approximate = approximate

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"approximate={self.approximate!r}"

    def forward(self, x: TensorLike) -> Tensor:
        """x (...) -> (...)."""
        return F.gelu(x, self.approximate)


class SiLU(Module):
    """x / (1 + e^-x).

    Args:
        inplace: without effect: an op does not overwrite its input.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: TensorLike) -> Tensor:
        """x (...) -> (...)."""
        return F.silu(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: TensorLike) -> Tensor:
        """x (...) -> (...)."""
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e^-x)."""

    def forward(self, x: TensorLike) -> Tensor:
        """x (...) -> (...)."""
        return F.sigmoid(x)


class Softmax(Module):
    """Probabilities along an axis.

    Args:
        axis: along which they sum to 1; also called ``dim``.
    """

    @both_names
    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"axis={self.axis}"

    def forward(self, x: TensorLike) -> Tensor:
        """x (...) -> (...)."""
        return F.softmax(x, self.axis)


class LogSoftmax(Softmax):
    """Logarithms of the probabilities along an axis; arguments as `Softmax`."""

    def forward(self, x: TensorLike) -> Tensor:
        """x (...) -> (...)."""
        return F.log_softmax(x, self.axis)


class Identity(Module):
    """x itself, to stand where a layer was taken out.

    Args:
        args, kwargs: those of the layer whose place it takes; ignored.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def forward(self, x: T) -> T:
        """x -> x."""
        return x
