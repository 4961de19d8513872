"""Pictures of runs: loss, learning rate, gradient norm, speed. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.errors import DataError
from tinygrad_llm.figure import new_figure, save_figure
from tinygrad_llm.training.report.callback import Record
from tinygrad_llm.training.report.log import LOG_NAME, TIMING_NAME, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Run:
    """The logs of a run.

    Attributes:
        name: for the legend.
        steps: lines about training steps.
        evaluations: lines about evaluations.
        timing: lines about speed and memory.
    """

    name: str
    steps: list[Record]
    evaluations: list[Record]
    timing: list[Record]


def read_run(folder: Path, name: str = "") -> Run:
    """The logs in a run's folder; ``name`` stands for the folder's in the legend.

    Raises:
        DataError: there is no log, it is damaged, or it has no line yet.
    """
    lines = read_log(folder / LOG_NAME)
    timing = read_log(folder / TIMING_NAME) if (folder / TIMING_NAME).is_file() else []
    if not lines:
        raise DataError(f"{folder / LOG_NAME}: holds no line yet; there is nothing to draw.")
    name = name or folder.resolve().name
    return Run(
        name.replace("$", r"\$"),  # two of them would begin and end a formula of matplotlib's
        [line for line in lines if "loss" in line],
        [line for line in lines if "validation_loss" in line],
        timing,
    )


def draw_loss(folder: Path, target: Path, levels: Mapping[str, float] | None = None) -> Path:
    """The loss curve of one run.

    Args:
        folder: the run's.
        target: the picture file.
        levels: horizontal lines to compare with, such as {"bigram entropy": 3.9}.

    Raises:
        DataError: see `read_run`, `save_figure`.
        MissingDependencyError: matplotlib is not installed.
    """
    run, figure = read_run(folder), new_figure(8, 5)
    axes = figure.subplots()
    axes.plot(*curve(run.steps, "loss"), label="training", linewidth=0.8, alpha=0.7)
    if run.evaluations:
        axes.plot(*curve(run.evaluations, "validation_loss"), label="validation", marker="o", ms=3)
    for number, (name, value) in enumerate((levels or {}).items()):
        axes.axhline(value, linestyle=(":", "--")[number % 2], color="gray", linewidth=1)
        axes.annotate(
            f"{name} {value:.2f}",
            (1, value),
            (-4, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="dimgray",
        )
    axes.set(xlabel="step", ylabel="cross-entropy (nats per token)", title=run.name)
    _add_token_axis(axes, run)
    axes.grid(alpha=0.2)
    axes.legend(loc="upper center")
    return save_figure(figure, target, dpi=120)


def draw_runs(folders: Sequence[Path], target: Path) -> Path:
    """Loss, learning rate, gradient norm and speed of several runs in one picture.

    Raises:
        DataError: see `read_run`, `save_figure`.
        MissingDependencyError: matplotlib is not installed.
    """
    names = [folder.resolve().name for folder in folders]
    runs = [
        read_run(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]
    figure = new_figure(12, 8)
    grid = figure.subplots(2, 2)
    panels = [
        ("steps", "loss", "loss (nats per token)"),
        ("steps", "learning_rate", "learning rate"),
        ("steps", "gradient_norm", "gradient norm, before clipping"),
        ("timing", "tokens_per_second", "tokens per second"),
    ]
    for axes, (lines, field, title) in zip(grid.flat, panels, strict=True):
        for number, run in enumerate(runs):
            color = f"C{number % 10}"
            axes.plot(
                *curve(getattr(run, lines), field), color=color, label=run.name, linewidth=0.9
            )
            if field == "loss" and run.evaluations:
                label = f"{run.name}, validation"
                xy = curve(run.evaluations, "validation_loss")
                axes.plot(*xy, color=color, marker="o", ms=3, linestyle="--", label=label)
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.2)
    grid[0, 0].legend(fontsize=8)
    grid[1, 1].set_ylim(bottom=0)
    return save_figure(figure, target, dpi=120)


def curve(lines: Sequence[Record], field: str) -> tuple[list[float], list[float]]:
    """Steps and values of a field, as matplotlib takes them; a gap (NaN) for what is no number."""
    return [line["step"] for line in lines], [_number(line.get(field)) for line in lines]


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _add_token_axis(axes: Axes, run: Run) -> None:
    """A second x axis in tokens, as in the book's figure 5.12."""
    last = run.steps[-1] if run.steps else {}
    if not (last.get("tokens") and last["step"]):
        return
    per_step = last["tokens"] / last["step"]

    def to_tokens(step: ArrayLike) -> np.ndarray:
        return np.asarray(step) * per_step / 1e6

    def to_steps(tokens: ArrayLike) -> np.ndarray:
        return np.asarray(tokens) * 1e6 / per_step

    above = axes.secondary_xaxis("top", functions=(to_tokens, to_steps))
    above.set_xlabel("tokens seen (millions)")
