"""Learning-rate schedules.

Each sets the learning rate of an optimizer's groups when it is made, and again at every ``step``:

    optimizer = AdamW(model, lr=1e-3)
    schedule = CosineSchedule(optimizer, warmup=100, max_steps=2000, min_lr=1e-4)
    for ids, targets in batches:
        loss = model.loss(ids, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

The groups' own learning rates, as they are when the schedule is made, are the peaks; groups with
different rates keep their ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.optim.optimizer import Optimizer


class Schedule:
    """Base of all schedules: override ``factor``, or ``rate`` where a factor does not say it.

    Attributes:
        count: number of optimizer steps done.
        peaks: the groups' learning rates when the schedule was made.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ConfigError(
                f"{type(self).__name__}: expected an optimizer, got {type(optimizer).__name__}."
            )
        self.optimizer = optimizer
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self.count = 0
        self._apply()

    def factor(self, step: int) -> float:
        """The learning rate of step ``step`` (from 0) over its peak."""
        raise ConfigError(f"{type(self).__name__}: a schedule must define factor(step).")

    def rate(self, step: int, peak: float) -> float:
        """The learning rate of step ``step`` of a group with that peak."""
        return peak * self.factor(step)

    def lr_at(self, step: int) -> float:
        """Learning rate of the first group at a step, without changing anything."""
        return self.rate(step, self.peaks[0])

    @property
    def lr(self) -> float:
        """Learning rate of the first group at the current step."""
        return self.optimizer.lr

    def get_last_lr(self) -> list[float]:
        """Learning rates of all groups at the current step."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Go on to the next step's learning rate; call it after ``optimizer.step()``."""
        self.count += 1
        self._apply()

    def _apply(self) -> None:
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.rate(self.count, peak)

    def settings(self) -> dict[str, object]:
        """What the schedule was made with, for the state."""
        return {}

    def state_dict(self) -> dict[str, object]:
        """Everything needed to go on from here, in JSON's types."""
        return {
            "type": type(self).__name__,
            "count": self.count,
            "peaks": list(self.peaks),
            "settings": self.settings(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state. The settings stay those this schedule was made with.

        Raises:
            CheckpointError: the state is of another schedule or of other groups.
        """
        owner = type(self).__name__
        peaks = state_dict.get("peaks")
        if state_dict.get("type") != owner or not isinstance(peaks, list):
            raise CheckpointError(
                f"{owner}.load_state_dict: this state is of {state_dict.get('type')!r}."
            )
        if len(peaks) != len(self.peaks):
            raise CheckpointError(
                f"{owner}.load_state_dict: the state has {len(peaks)} parameter groups, the "
                f"optimizer {len(self.peaks)}."
            )
        self.count, self.peaks = int(state_dict["count"]), [float(p) for p in peaks]
        self._apply()


class ConstantSchedule(Schedule):
    """The peak, always."""

    def factor(self, step: int) -> float:
        """1."""
        return 1.0


class WarmupSchedule(Schedule):
    """Linear warm-up, then a constant rate at the peak.

    Step i of the warm-up has (i + 1) / (warmup + 1) of the peak, so the first is not zero.

    Args:
        optimizer: whose groups' learning rates are set.
        warmup: number of steps below the peak.

    Raises:
        ConfigError: warmup is negative.
    """

    def __init__(self, optimizer: Optimizer, warmup: int) -> None:
        self.warmup = check_count(type(self).__name__, "warmup", warmup)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """(i + 1) / (warmup + 1), at most 1."""
        return min(1.0, (step + 1) / (self.warmup + 1))

    def settings(self) -> dict[str, object]:
        """warmup."""
        return {"warmup": self.warmup}


class _Decay(Schedule):
    """Warm-up, then down to ``min_lr`` at ``max_steps``, then constant; the shape is `fall`."""

    def __init__(
        self, optimizer: Optimizer, max_steps: int, warmup: int = 0, min_lr: float = 0.0
    ) -> None:
        owner = type(self).__name__
        self.warmup = check_count(owner, "warmup", warmup)
        self.max_steps = check_count(owner, "max_steps", max_steps)
        self.min_lr = float(min_lr)
        if self.max_steps <= self.warmup:
            raise ConfigError(
                f"{owner}: max_steps must be greater than warmup, got max_steps={max_steps} and "
                f"warmup={warmup}."
            )
        super().__init__(optimizer)

    def _apply(self) -> None:
        if not 0 <= self.min_lr <= self.peaks[0]:
            raise ConfigError(
                f"{type(self).__name__}: min_lr must be from 0 to the optimizer's lr "
                f"{self.peaks[0]:g}, got {self.min_lr:g}."
            )
        super()._apply()

    def factor(self, step: int) -> float:
        """Warm-up as in `WarmupSchedule`, then between 1 and min_lr / peak."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        lowest = self.min_lr / self.peaks[0] if self.peaks[0] else 0.0
        done = min(1.0, (step - self.warmup) / (self.max_steps - self.warmup))
        return lowest + self.fall(done) * (1 - lowest)

    def fall(self, done: float) -> float:
        """From 1 at ``done`` = 0 to 0 at ``done`` = 1."""
        return 1 - done

    def settings(self) -> dict[str, object]:
        """max_steps, warmup, min_lr."""
        return {"max_steps": self.max_steps, "warmup": self.warmup, "min_lr": self.min_lr}


class LinearSchedule(_Decay):
    """Warm-up, then in a straight line down to ``min_lr`` at ``max_steps``.

    Args:
        optimizer: whose groups' learning rates are set.
        max_steps: the step at which ``min_lr`` is reached; it stays there.
        warmup: number of steps below the peak, as in `WarmupSchedule`.
        min_lr: of the first group; other groups end in the same ratio to their peak.

    Raises:
        ConfigError: max_steps is not greater than warmup, or min_lr not from 0 to the peak.
    """


class CosineSchedule(_Decay):
    """Warm-up, then half a cosine wave down to ``min_lr`` at ``max_steps``.

        lr = min_lr + (peak - min_lr) (1 + cos(pi done)) / 2,
        done = (step - warmup) / (max_steps - warmup)

    Arguments and errors as in `LinearSchedule`.

    Source: Loshchilov & Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017,
    equation 5; warm-up and indices as in nanoGPT.
    """

    def fall(self, done: float) -> float:
        """(1 + cos(pi done)) / 2."""
        return 0.5 * (1 + math.cos(math.pi * done))


def check_count(owner: str, name: str, value: object, least: int = 0) -> int:
    """The value, if it is an integer of at least ``least``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{owner}: {name} must be an integer of at least {least}, got {value!r}.")
    return value
