"""How activations, gradients and weights are spread in each layer, as the run goes on.

Healthy layers keep a spread of about the same size. One that shrinks towards zero from layer to
layer learns nothing (vanishing gradients), one that grows soon overflows (exploding ones).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.handles import Handle
from tinygrad_llm.backend import to_numpy
from tinygrad_llm.errors import DataError
from tinygrad_llm.figure import new_figure, save_figure
from tinygrad_llm.nn import Module
from tinygrad_llm.training.loop_settings import StepReport, TrainingResult
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.report.log import LineLog, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tinygrad_llm.training.report.tensorboard import TensorBoard
    from tinygrad_llm.training.trainer import Trainer

FILE_NAME = "histograms.jsonl"
BINS = 64
Kind = Literal["activations", "gradients"]
KINDS: tuple[Kind, Kind] = ("activations", "gradients")


class Histogram(TypedDict):
    """How many numbers lie in each of `BINS` equal parts of their range."""

    range: list[float]
    counts: list[int]
    quantiles: list[float]  # 1, 25, 50, 75, 99 %
    std: float


class HistogramsOfStep(TypedDict):
    """A line of the file."""

    step: int
    activations: dict[str, Histogram]
    gradients: dict[str, Histogram]


class Histograms(Callback):
    """Writes histograms every so many steps: outputs of blocks, gradients of parameters.

    Args:
        folder: the run's.
        every: steps between them.
        board: TensorBoard to write to as well, or None.
    """

    def __init__(self, folder: Path, every: int, board: TensorBoard | None = None) -> None:
        self.every = every
        self.board = board
        self._log = LineLog(folder / FILE_NAME)
        self._outputs: dict[str, np.ndarray] = {}
        self._removers: list[Handle] = []

    def on_start(self, trainer: Trainer) -> None:
        """Listens to the outputs of the blocks, of those steps only that are looked at."""
        self._log.cut_after(trainer.step)
        for name, module in trainer.model.named_modules():
            parent, _, last = name.rpartition(".")
            if parent == "blocks" or name == "final_norm":
                label = f"block {last}" if parent else "final norm"
                self._removers.append(module.register_forward_hook(self._keeper(trainer, label)))

    def _keeper(self, trainer: Trainer, label: str) -> Callable[..., None]:
        def keep(module: Module, arguments: object, output: Tensor) -> None:
            if module.training and (trainer.step + 1) % self.every == 0:
                self._outputs[label] = to_numpy(output.data).astype(np.float32).ravel()

        return keep

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Counts, when it is time."""
        if report.step % self.every:
            return
        record: HistogramsOfStep = {
            "step": report.step,
            "activations": {name: _count(x) for name, x in self._outputs.items()},
            "gradients": {
                name: _count(to_numpy(p.grad).astype(np.float32).ravel())
                for name, p in trainer.model.named_parameters()
                if p.grad is not None and p.ndim >= 2
            },
        }
        self._outputs = {}
        self._log.write(record)
        if self.board is not None:
            self._to_board(self.board, record)

    def on_end(self, trainer: Trainer, result: TrainingResult) -> None:
        """Takes the hooks away."""
        for remove in self._removers:
            remove()
        self._removers = []
        self._log.close()

    def _to_board(self, board: TensorBoard, record: HistogramsOfStep) -> None:
        for kind in KINDS:
            for name, found in record[kind].items():
                counts, (low, high) = np.array(found["counts"]), found["range"]
                edges = np.linspace(low, high, len(counts) + 1)
                board.histogram(record["step"], f"{kind}/{name}", counts, edges)


def _count(x: np.ndarray) -> Histogram:
    """Counts in equal bins over the range; quantiles, by which the picture is drawn."""
    finite = x[np.isfinite(x)]
    if not finite.size:
        return {"range": [0.0, 0.0], "counts": [0] * BINS, "quantiles": [0.0] * 5, "std": 0.0}
    counts, edges = np.histogram(finite, BINS)
    return {
        "range": [float(edges[0]), float(edges[-1])],
        "counts": counts.tolist(),
        "quantiles": [float(q) for q in np.quantile(finite, [0.01, 0.25, 0.5, 0.75, 0.99])],
        "std": float(finite.std()),
    }


def has_histograms(folder: Path) -> bool:
    """Whether a run wrote histograms."""
    return (folder / FILE_NAME).is_file()


def draw_histograms(folder: Path, target: Path) -> Path:
    """Each layer's newest histogram, and how its spread developed.

    Raises:
        DataError: there are none, they are damaged, or the picture cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    records = read_log(folder / FILE_NAME)
    if not records:
        raise DataError(f"{folder / FILE_NAME}: holds no histogram yet.")
    figure = new_figure(14, 10)
    try:
        for row, kind in zip(figure.subplots(2, 2), KINDS, strict=True):
            _draw_newest(row[0], records[-1], kind)
            _draw_spread(row[1], records, kind)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / FILE_NAME}: is damaged, no histograms: {error!r}.") from error
    figure.suptitle(folder.resolve().name, parse_math=False)
    return save_figure(figure, target)


def _draw_newest(axes: Axes, record: HistogramsOfStep, kind: Kind) -> None:
    """One histogram above the other, first layer at the bottom."""
    names = list(record[kind])
    for height, name in enumerate(names):
        found = record[kind][name]
        counts = np.array(found["counts"], float)
        scale = found["std"] or 1.0
        low, high = found["range"]
        x = np.linspace(low, high, len(counts)) / scale
        y = counts / max(1.0, counts.max())
        axes.fill_between(x, height, height + 0.9 * y, alpha=0.7)
    axes.set_yticks(np.arange(len(names)) + 0.2, _short(names), fontsize=7)
    axes.set(xlim=(-5, 5), xlabel="standard deviations", title=f"{kind}, step {record['step']}")


def _draw_spread(axes: Axes, records: list[HistogramsOfStep], kind: Kind) -> None:
    """The standard deviation of each layer over the steps."""
    names = list(records[-1][kind])
    steps = [record["step"] for record in records]
    for number, name in enumerate(names):
        values = [
            record[kind][name]["std"] if name in record[kind] else np.nan for record in records
        ]
        shade = number / max(1, len(names) - 1)
        axes.plot(
            steps,
            values,
            color=(shade, 0.3, 1 - shade),
            linewidth=1,
            marker=".",
            label=_short([name])[0],
        )
    axes.set(yscale="log", xlabel="step", title=f"standard deviation of {kind}")
    axes.grid(alpha=0.2)
    axes.legend(fontsize=6, ncols=2)


def _short(names: list[str]) -> list[str]:
    return [name.removesuffix(".weight").replace("blocks.", "") for name in names]
