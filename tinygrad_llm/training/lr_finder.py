"""Finding a learning rate: raise it until the loss explodes, and stay below.

    lr(i) = low (high / low)^(i / n)

The loss falls fastest somewhat below the learning rate at which it begins to rise. Suggested is
the rate of the steepest fall of the smoothed loss.

Source: Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.errors import ConfigError, NumericsError
from tinygrad_llm.figure import new_figure, save_figure
from tinygrad_llm.training.trainer import Trainer

_SMOOTHING = 0.9
_EXPLODED = 1.5  # times the lowest smoothed loss: time to stop


@dataclass(frozen=True)
class RateSearch:
    """What the search found.

    Attributes:
        rates, losses: learning rate and smoothed loss of each step.
        suggestion: where the loss fell fastest.
        exploded_at: the rate from which on the loss rose, or None.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float
    exploded_at: float | None


def find_learning_rate(
    trainer: Trainer, low: float = 1e-6, high: float = 1.0, steps: int = 120
) -> RateSearch:
    """Train with rising learning rates, then put everything back as it was.

    Args:
        trainer: before its first step, or at any other.
        low, high: the range to search.
        steps: number of learning rates to try.

    Raises:
        ConfigError: the range or the number makes no sense.
        NumericsError: the loss is not finite from the first step on.
    """
    if not 0 < low < high or steps < 10:
        raise ConfigError(f"find_learning_rate: low={low}, high={high}, steps={steps}.")
    weights = {name: p.data.copy() for name, p in trainer.model.named_parameters()}
    state = _copied_state(trainer)
    try:
        trainer.model.train()
        rates, losses, exploded_at = _search(trainer, low, high, steps)
    finally:
        trainer.model.load_state_dict(weights)
        _restore(trainer, state)
    if len(losses) < 5:
        raise NumericsError(f"find_learning_rate: the loss exploded at {rates[0]:g}. Lower `low`.")
    return RateSearch(rates, losses, _steepest(rates, losses), exploded_at)


def _copied_state(trainer: Trainer) -> dict:
    optimizer = trainer.optimizer.state_dict()
    arrays = {name: array.copy() for name, array in optimizer["arrays"].items()}
    return {
        "optimizer": {**optimizer, "arrays": arrays},
        "loader": trainer.loader.state(),
        "generator": default_generator().state(),
        "loss_scale": trainer.precision.state(),
    }


def _restore(trainer: Trainer, state: dict) -> None:
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.loader.set_state(state["loader"])
    default_generator().set_state(state["generator"])
    if state["loss_scale"] is not None:
        trainer.precision.set_state(state["loss_scale"])
    trainer.optimizer.zero_grad()


def _search(
    trainer: Trainer, low: float, high: float, steps: int
) -> tuple[list[float], list[float], float | None]:
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for i in range(steps):
        rate = low * (high / low) ** (i / (steps - 1))
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        trainer.optimizer.zero_grad()
        batches = [trainer.loader.next_batch() for _ in range(trainer.settings.accumulate)]
        loss, _ = trainer.backward(batches)
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smoothed = mean / (1 - _SMOOTHING ** (i + 1))
        if not math.isfinite(smoothed) or (losses and smoothed > _EXPLODED * min(losses)):
            return rates, losses, rate
        rates.append(rate)
        losses.append(smoothed)
        norm = trainer.clip()
        trainer.precision.note(norm)
        if math.isfinite(norm):
            trainer.update()
        elif not trainer.precision.scaled:  # where it is, the scale was too large, not the rate
            return rates, losses, rate
    return rates, losses, None


def _steepest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate of the steepest fall per factor of the rate; before the lowest loss."""
    lowest = max(2, losses.index(min(losses)))
    slopes = [losses[i + 1] - losses[i - 1] for i in range(1, lowest)]
    return rates[1 + slopes.index(min(slopes))]


def draw_search(found: RateSearch, target: Path) -> Path:
    """The loss over the learning rate.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        DataError: the picture cannot be written.
    """
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses)
    axes.axvline(found.suggestion, color="C2", linestyle="--")
    axes.annotate(
        f"suggested {found.suggestion:.1e}",
        (found.suggestion, max(found.losses)),
        (4, -8),
        textcoords="offset points",
        color="C2",
    )
    if found.exploded_at is not None:
        axes.axvline(found.exploded_at, color="C3", linestyle=":")
    axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed training loss")
    axes.grid(alpha=0.2)
    return save_figure(figure, target, dpi=120)
