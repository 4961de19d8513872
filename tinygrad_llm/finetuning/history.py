"""What a fine-tuning did, and the best weights it had: what `loop.fit` keeps beside the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.backend import Array, to_device
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn import Module, Parameter
from tinygrad_llm.training.loop_settings import StepReport, TrainingResult
from tinygrad_llm.training.report.callback import Callback, Record
from tinygrad_llm.training.run.folder import PrintLine
from tinygrad_llm.training.trainer import Trainer


@dataclass
class History:
    """What happened.

    Attributes:
        losses: (step, training loss) of every step.
        evaluations: one dict for each validation: "step", "epoch", and what was measured. The
            first is of the model before training.
        best: place in ``evaluations`` of the weights that were kept.
        stopped_by: why it ended before the last epoch, or None.
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    stopped_by: str | None = None

    def column(self, name: str) -> list[float]:
        """One measure over all validations."""
        return [e[name] for e in self.evaluations]

    def to_dict(self) -> dict[str, object]:
        """All but ``stopped_by``, in JSON's types and arrays, for a checkpoint."""
        losses = np.array(self.losses, np.float64).reshape(-1, 2)  # (steps, 2)
        return {"losses": losses, "evaluations": self.evaluations, "best": self.best}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> History:
        """What `to_dict` returned."""
        losses = [(int(step), float(loss)) for step, loss in values["losses"]]
        return cls(losses, [dict(e) for e in values["evaluations"]], int(values["best"]))


class KeepsBest(Callback):
    """Writes the history, keeps the best weights, and puts them back at the end.

    Args:
        model: whose parameters learn.
        per_epoch: steps in an epoch.
        report: called with a line after each validation; None for no lines.

    Attributes:
        history: so far.
        learning: the parameters that learn, by name.

    Raises:
        ConfigError: no parameter learns.
    """

    def __init__(self, model: Module, per_epoch: int, report: PrintLine | None) -> None:
        self.history = History()
        self._per_epoch, self._report = per_epoch, report
        self.learning: dict[str, Parameter] = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        if not self.learning:
            raise ConfigError("fit: no parameter requires a gradient; unfreeze some layer.")
        self._best = {name: p.data.copy() for name, p in self.learning.items()}

    def state(self) -> dict[str, object]:
        """History and best weights, for a checkpoint."""
        return {"history": self.history.to_dict(), "best_weights": self._best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved `state`."""
        self.history = History.from_dict(state["history"])
        for name, kept in self._best.items():
            kept[...] = to_device(state["best_weights"][name], self.learning[name].device)

    def load(self, weights: Mapping[str, Array]) -> None:
        """Put weights into the parameters that learn."""
        with no_grad():
            for name, parameter in self.learning.items():
                parameter.copy_(to_device(weights[name], parameter.device))

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Notes the loss."""
        self.history.losses.append((report.step, report.loss))

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Notes what was measured, keeps the weights if they are the best, prints a line."""
        measured = {k.removeprefix("validation_"): v for k, v in record.items()}
        measured["epoch"] = measured["step"] / self._per_epoch
        self.history.evaluations.append(measured)
        best = trainer.progress.best_step == record["step"]
        if best:
            self.history.best = len(self.history.evaluations) - 1
            for name, kept in self._best.items():
                kept[...] = self.learning[name].data
        if self._report:
            self._report(self._line(measured) + (" *" if best else ""))

    def on_end(self, trainer: Trainer, result: TrainingResult) -> None:
        """Puts the best weights back."""
        self.load(self._best)

    def _line(self, measured: Mapping[str, float]) -> str:
        figures = [f"{k} {v:.4f}" for k, v in measured.items() if k not in ("step", "epoch")]
        recent = [loss for _, loss in self.history.losses[-self._per_epoch :]]
        trained = f"training {np.mean(recent):.4f}  " if recent else " " * 17
        return f"epoch {measured['epoch']:5.2f}  {trained}validation: {'  '.join(figures)}"
