"""PyTorch's schedules under PyTorch's names: ``tg.optim.lr_scheduler.StepLR(optimizer, 30)``.

Each gives the learning rate of step t as a factor of the rate that the group had when the schedule
was made. For a warm-up followed by a fall use `CosineSchedule`, which has both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from tinygrad_llm.errors import ConfigError, missing_name
from tinygrad_llm.optim.optimizer import Optimizer
from tinygrad_llm.optim.schedule import Schedule, check_count

__all__ = ["CosineAnnealingLR", "ExponentialLR", "LambdaLR", "LinearLR", "StepLR"]
_WARMUP = "tg.optim.CosineSchedule(optimizer, max_steps, warmup, min_lr)"
_LEFT_OUT = {
    "ChainedScheduler": "LambdaLR with the product of the factors",
    "ConstantLR": "LambdaLR",
    "CosineAnnealingWarmRestarts": "LambdaLR, or a subclass of tg.optim.Schedule",
    "CyclicLR": "LambdaLR, or a subclass of tg.optim.Schedule",
    "MultiStepLR": "LambdaLR",
    "OneCycleLR": _WARMUP,
    "PolynomialLR": "LambdaLR",
    "ReduceLROnPlateau": "optimizer.param_groups[0]['lr'] *= 0.1 when the loss stays",
    "SequentialLR": _WARMUP,
}


class LambdaLR(Schedule):
    """lr = lr_0 f(t)

    Args:
        optimizer: whose groups' learning rates are set.
        lr_lambda: f, from the number of steps done to the factor. It is not part of the state.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        if not callable(lr_lambda):
            raise ConfigError(
                f"LambdaLR: lr_lambda must be a function of the step, got {lr_lambda!r}. Groups "
                "differ by their own learning rates, not by several functions."
            )
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """f(step)."""
        return self.lr_lambda(step)


class StepLR(Schedule):
    """lr = lr_0 gamma^floor(t / step_size)

    Args:
        optimizer: whose groups' learning rates are set.
        step_size: number of steps between two falls.
        gamma: the factor of a fall.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = check_count("StepLR", "step_size", step_size, 1)
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """gamma^floor(step / step_size)."""
        return self.gamma ** (step // self.step_size)

    def settings(self) -> dict[str, object]:
        """step_size, gamma."""
        return {"step_size": self.step_size, "gamma": self.gamma}


class ExponentialLR(Schedule):
    """lr = lr_0 gamma^t

    Args:
        optimizer: whose groups' learning rates are set.
        gamma: the factor of each step.
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """gamma^step."""
        return self.gamma**step

    def settings(self) -> dict[str, object]:
        """gamma."""
        return {"gamma": self.gamma}


class LinearLR(Schedule):
    """lr = lr_0 (start + (end - start) min(1, t / total_iters))

    Args:
        optimizer: whose groups' learning rates are set.
        start_factor, end_factor: start and end.
        total_iters: the step from which the factor is ``end_factor``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = check_count("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Between start_factor and end_factor."""
        done = min(1.0, step / self.total_iters)
        return self.start_factor + (self.end_factor - self.start_factor) * done

    def settings(self) -> dict[str, object]:
        """start_factor, end_factor, total_iters."""
        return {
            "start_factor": self.start_factor,
            "end_factor": self.end_factor,
            "total_iters": self.total_iters,
        }


class CosineAnnealingLR(Schedule):
    """lr = eta_min + (lr_0 - eta_min) (1 + cos(pi t / T_max)) / 2

    After T_max steps it rises again. Every group falls to ``eta_min``, whatever its own rate.

    Args:
        optimizer: whose groups' learning rates are set.
        T_max: the step at which ``eta_min`` is reached.
        eta_min: the lowest learning rate.

    Source: Loshchilov & Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017,
    equation 5.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = check_count("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = eta_min
        super().__init__(optimizer)

    def rate(self, step: int, peak: float) -> float:
        """Between ``peak`` and eta_min."""
        share = (1 + math.cos(math.pi * step / self.T_max)) / 2
        return self.eta_min + (peak - self.eta_min) * share

    def settings(self) -> dict[str, object]:
        """T_max, eta_min."""
        return {"T_max": self.T_max, "eta_min": self.eta_min}


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        raise missing_name("tg.optim.lr_scheduler", name, _LEFT_OUT, __all__)
