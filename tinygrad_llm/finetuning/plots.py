"""Pictures of fine-tuning: curves, the confusion matrix, thresholds. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygrad_llm.figure import new_figure, save_figure
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.metrics import ThresholdCurve


def draw_history(
    history: History, target: Path, title: str, measures: Sequence[str] = ("loss",)
) -> Path:
    """Training loss of each step, and what the validations measured.

    Args:
        history: of `loop.fit`.
        target: the picture file.
        title: above the picture.
        measures: names in ``history.evaluations``; the loss shares its panel with the training
            loss, all others come into a second panel.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        DataError: the file cannot be written.
    """
    others = [m for m in measures if m != "loss"]
    columns = 2 if others else 1
    figure = new_figure(6 * columns, 4.5)
    grid = figure.subplots(1, columns, squeeze=False)
    losses, steps = grid[0, 0], history.column("step")
    x, y = zip(*history.losses, strict=True)
    losses.plot(x, y, color="C0", alpha=0.25, linewidth=0.8, label="training, each step")
    losses.plot(x, _smooth(np.array(y)), color="C0", label="training, smoothed")
    losses.plot(steps, history.column("loss"), color="C1", marker="o", ms=4, label="validation")
    losses.axvline(steps[history.best], color="gray", linestyle=":", label="weights kept")
    losses.set(xlabel="step", ylabel="loss", ylim=(0, None))
    for number, name in enumerate(others):
        label = name.replace("_", " ").replace("f1", "F1")
        grid[0, 1].plot(
            steps, history.column(name), color=f"C{number + 1}", marker="o", ms=4, label=label
        )
        grid[0, 1].set(xlabel="step", title="validation")
    for axes in grid.flat:
        axes.grid(alpha=0.2)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    return save_figure(figure, target)


def draw_confusion(counts: np.ndarray, names: Sequence[str], target: Path, title: str) -> Path:
    """The confusion matrix: rows what it is, columns what it was called.

    The colour is the share of the row, so that a rare class is as visible as a frequent one.

    Raises:
        MissingDependencyError, DataError: as `draw_history`.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure(4.6, 4)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), part in np.ndenumerate(share):
        color = "white" if part > 0.6 else "black"
        axes.text(j, i, f"{counts[i, j]}\n{part:.1%}", ha="center", va="center", color=color)
    axes.set(
        xticks=range(len(names)),
        yticks=range(len(names)),
        xticklabels=names,
        yticklabels=names,
        xlabel="called",
        ylabel="is",
        title=title,
    )
    figure.colorbar(image, label="share of the row", shrink=0.8)
    return save_figure(figure, target)


def draw_thresholds(curve: ThresholdCurve, chosen: float, target: Path, title: str) -> Path:
    """Precision, recall and F1 over the threshold, and precision over recall.

    Raises:
        MissingDependencyError, DataError: as `draw_history`.
    """
    figure = new_figure(11, 4.3)
    left, right = figure.subplots(1, 2)
    at = int(np.searchsorted(curve.thresholds, chosen))  # the scores from here on are positive
    log_odds = _log_odds(np.concatenate([[0.0], curve.thresholds]))
    for name in ("precision", "recall", "f1"):
        values = getattr(curve, name)
        # Between two scores a threshold calls the same examples: the value at the higher one.
        values = np.concatenate([values[:1], values])
        left.step(log_odds, values, where="pre", label=name.replace("f1", "F1"))
    left.axvline(_log_odds(np.array([chosen]))[0], color="gray", linestyle=":", label="chosen")
    ticks = np.array([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
    left.set(xlabel="threshold (on the scale of log-odds)", ylim=(0, 1.05))
    left.set_xlim(*_log_odds(np.clip(curve.thresholds[[0, -1]] + [-0.02, 0.02], 5e-4, 1 - 5e-4)))
    left.set_xticks(_log_odds(ticks), [f"{t:g}" for t in ticks])
    right.step(curve.recall, curve.precision, where="post")
    if at < len(curve.thresholds):  # otherwise nothing is called positive
        left.plot(_log_odds(np.array([chosen])), curve.f1[at], "o", color="gray")
        label = f"chosen: {chosen:.2f}, F1 {curve.f1[at]:.3f}"
        right.plot(curve.recall[at], curve.precision[at], "o", color="gray", label=label)
        right.legend(loc="lower left")
    right.set(xlabel="recall", ylabel="precision", xlim=(0, 1.05), ylim=(0, 1.05))
    left.legend(loc="lower left")
    for axes in (left, right):
        axes.grid(alpha=0.2)
    figure.suptitle(title)
    return save_figure(figure, target)


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def _smooth(y: np.ndarray) -> np.ndarray:
    """Mean over a window of a twentieth of the curve, shorter at the ends."""
    width = max(1, len(y) // 20)
    kernel = np.ones(width)
    return np.convolve(y, kernel, "same") / np.convolve(np.ones_like(y), kernel, "same")
