"""One process that computes a step, alone; the base of `ranks.Ranks`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from tinygrad_llm.backend import Array
from tinygrad_llm.optim import Optimizer, clip_grad_norm
from tinygrad_llm.optim.flat import FlatBuffer, Run

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer


class OneProcess:
    """This process computes whole batches: every sum over processes is its own number.

    Attributes:
        size: number of processes.
        optimizer: whose parameters are trained.
    """

    size = 1
    optimizer: Optimizer

    def attach(self, optimizer: Optimizer) -> None:
        """Take the optimizer that this world trains with."""
        self.optimizer = optimizer

    # ---- gradients ---------------------------------------------------------------------------

    def total(self, number: float) -> float:
        """The sum of a number over all processes."""
        return number

    def own_random_numbers(self) -> AbstractContextManager[None]:
        """Inside, dropout draws what no other process draws."""
        return nullcontext()

    def watch(self) -> None:
        """Sums may begin: the last backward pass of a step is about to run."""

    def finish(self) -> None:
        """Return when the gradients are those of all processes."""

    def add_up(self) -> None:
        """`watch` and `finish` for gradients that are complete already."""

    def gradients(self) -> list[Array]:
        """The gradients that this process updates with, as a few flat arrays."""
        return self.optimizer.gradients()

    def norm(self) -> float:
        """Norm of the whole gradient."""
        return float(clip_grad_norm(self.optimizer, float("inf")))

    def clip(self, limit: float) -> float:
        """Limit the norm of the whole gradient; returns what it was."""
        return float(clip_grad_norm(self.optimizer, limit))

    # ---- weights -----------------------------------------------------------------------------

    def update(self) -> None:
        """A step of the optimizer."""
        self.optimizer.step()

    def gather(self) -> None:
        """Bring back to the flat arrays what was put elsewhere since the last step."""
        for buffer in self.optimizer.buffers:
            buffer.gather()

    def runs(self) -> Iterator[tuple[FlatBuffer, Run]]:
        """What this process updates: flat arrays, and stretches of them."""
        for buffer in self.optimizer.buffers:
            for run in buffer.runs():
                yield buffer, run

    def finish_update(self) -> None:
        """The `runs` have new values: count the step, and note that weights were written."""
        for buffer in self.optimizer.buffers:
            buffer.finish_step()

    # ---- the run -----------------------------------------------------------------------------

    def begin(self, trainer: Trainer) -> None:
        """Before the first step: see to it that all processes train the same."""

    def agree_to_stop(self, reason: str | None) -> str | None:
        """Why all stop after this step, or None."""
        return reason

    def whole_state(self) -> AbstractContextManager[None]:
        """Inside, the optimizer of the process that saves has the whole state."""
        return nullcontext()

    def loading_state(self) -> AbstractContextManager[None]:
        """Inside, the optimizer takes a whole state."""
        return nullcontext()
