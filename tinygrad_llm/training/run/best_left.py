"""Which checkpoint is the best one where the best of all is damaged or gone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.training.progress import TrainingState
from tinygrad_llm.training.run.checkpoint import verify


class Checkpoints(Protocol):
    """What `folder.RunFolder` is asked for here."""

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, newest first."""

    def folder_of(self, step: int) -> Path:
        """Where the checkpoint of a step stands."""

    def set_aside(self, folder: Path) -> None:
        """Rename a damaged checkpoint."""


def replace_best(
    run: Checkpoints, state: TrainingState, report: Callable[[str], None]
) -> int | None:
    """The step of the best checkpoint: the one that ``state`` names, if that is there and intact.

    Otherwise the best of those that are left takes its place in ``state``, so that a later one is
    compared with a checkpoint that exists.

    Args:
        run: the checkpoints; a damaged one is set aside.
        state: of the newest checkpoint.
        report: called with a sentence if the best one is damaged or missing.
    """
    progress: dict[str, Any] = dict(state.get("trainer") or {})
    best = progress.get("best_step")
    if not isinstance(best, int):
        return None
    try:
        verify(run.folder_of(best))
        return best
    except (CheckpointError, OSError) as error:
        complaint = error
    if run.folder_of(best).is_dir():
        run.set_aside(run.folder_of(best))
    losses = {step: _validation_loss(run.folder_of(step)) for step in run.steps()}
    left = min(losses, key=lambda step: losses[step], default=None)
    if left is None or losses[left] == math.inf:
        progress.update(best_step=None, best_loss=None)
        instead = "The next validation chooses a new one."
    else:
        progress.update(best_step=left, best_loss=losses[left])
        instead = f"The best one is now that of step {left}, with a loss of {losses[left]:.4f}."
    state["trainer"] = progress
    report(f"{complaint} It was the best checkpoint. {instead}")
    return progress["best_step"]


def _validation_loss(checkpoint: Path) -> float:
    """The loss of the validation at a checkpoint; infinity where it is unknown or damaged."""
    try:
        state = verify(checkpoint)
        progress = state["trainer"]
        if progress["evaluated_step"] != state["step"]:
            return math.inf
        return float(progress["last_evaluation"]["loss"])
    except (CheckpointError, OSError, KeyError, TypeError, ValueError):
        return math.inf
