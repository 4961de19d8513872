"""Several processes that compute each step together.

Each rank computes on its part of every batch; the sums of `distributed.buckets` make the gradient
that of the whole batch, so weights stay the same on all ranks and all that follows from them does
too: what the loop decides (skip, evaluate, save, stop) it decides alike everywhere. Only rank 0
has a folder, logs and saves.

``batch_size`` is that of all ranks together. So a run computes the same whatever the number of
processes, up to the rounding of sums, and may be resumed with another number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.distributed import Communicator, GradientSum, ShardedUpdate, require_equal
from tinygrad_llm.optim import Optimizer
from tinygrad_llm.optim.flat import FlatBuffer, Run
from tinygrad_llm.training.steps.world import OneProcess
from tinygrad_llm.training.stopping import EXIT_CODES

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer

# Reasons to stop; the one with the higher number wins where ranks saw different ones.
_REASONS = ("", *EXIT_CODES)


class Ranks(OneProcess):
    """All ranks of a communicator; the loader of each gives its part of every batch.

    Args:
        communicator: the ranks.
        shard: each rank keeps its part of the optimizer's state only, and updates that part.

    Attributes:
        sums: the gradients' buckets.
    """

    sums: GradientSum
    sharded: ShardedUpdate | None

    def __init__(self, communicator: Communicator, shard: bool = False) -> None:
        self.communicator, self.shard = communicator, shard
        self.size = communicator.size

    def attach(self, optimizer: Optimizer) -> None:
        """Cut the optimizer's flat arrays into buckets, and its state into parts."""
        super().attach(optimizer)
        self.sums = GradientSum(optimizer, self.communicator, scattered=self.shard)
        self.sharded = ShardedUpdate(self.sums) if self.shard else None

    # ---- gradients ---------------------------------------------------------------------------

    def total(self, number: float) -> float:
        """The sum of a number over all ranks."""
        return self.communicator.total(number)[0]

    @contextmanager
    def own_random_numbers(self) -> Iterator[None]:
        """Inside, each rank has random numbers of its own; afterwards all have rank 0's."""
        generator = default_generator()
        if self.communicator.rank:
            before = generator.state()
            seed = np.random.SeedSequence([*generator.next_key(), self.communicator.rank])
            generator.seed(int(seed.generate_state(1, np.uint64)[0]))
        start = generator.state()
        yield
        if generator.state() != start:
            generator.set_state(self.communicator.share(generator.state()))
        elif self.communicator.rank:
            generator.set_state(before)

    def watch(self) -> None:
        """Sums may begin: the last backward pass of a step is about to run."""
        self.sums.watch()

    def finish(self) -> None:
        """Return when the gradients are those of all ranks."""
        self.sums.finish()

    def add_up(self) -> None:
        """Sum gradients that a replay has written, of which no leaf has told."""
        self.sums.add_up()

    def gradients(self) -> list[Array]:
        """The gradients that this rank updates with."""
        return self.sharded.own_gradients() if self.sharded else super().gradients()

    def norm(self) -> float:
        """Norm of the whole gradient, of which each rank may know a part."""
        return self.sharded.norm() if self.sharded else super().norm()

    def clip(self, limit: float) -> float:
        """Limit the norm of the whole gradient; returns what it was."""
        return self.sharded.clip(limit) if self.sharded else super().clip(limit)

    # ---- weights -----------------------------------------------------------------------------

    def update(self) -> None:
        """A step of the optimizer, on the own part where it is sharded."""
        if self.sharded:
            self.sharded.step()
        else:
            super().update()

    def gather(self) -> None:
        """Bring back to the flat arrays what was put elsewhere since the last step."""
        if self.sharded:
            self.sharded.gather()
        else:
            super().gather()

    def runs(self) -> Iterator[tuple[FlatBuffer, Run]]:
        """What this rank updates: flat arrays, and stretches of them."""
        return self.sharded.runs() if self.sharded else super().runs()

    def finish_update(self) -> None:
        """Exchange new weights where each rank has a part, and count the step."""
        if self.sharded:
            self.sharded.finish_step()
        else:
            super().finish_update()

    # ---- the run -----------------------------------------------------------------------------

    def begin(self, trainer: Trainer) -> None:
        """Refuse ranks that differ, and give all of them rank 0's weights.

        Raises:
            DistributedError: step, position in the data or parameters differ.
        """
        require_equal(
            self.communicator,
            {
                "step": trainer.step,
                "position in the data": trainer.loader.state(),
                "parameters": [[n, list(p.shape)] for n, p in trainer.model.named_parameters()],
            },
        )
        for buffer in self.optimizer.buffers:
            buffer.gather()
            self.communicator.broadcast(buffer.data).wait()

    def agree_to_stop(self, reason: str | None) -> str | None:
        """The reason that any rank has: a signal reaches them at different steps."""
        number = _REASONS.index(reason) if reason in _REASONS else 0
        highest = self.communicator.highest(number)
        return _REASONS[highest] if highest else reason  # early stopping: all have it

    def whole_state(self) -> AbstractContextManager[None]:
        """Inside, the optimizer on rank 0 has the state of all ranks."""
        return self.sharded.collected() if self.sharded else nullcontext()

    def loading_state(self) -> AbstractContextManager[None]:
        """Inside, the optimizer takes a whole state, whatever the number of ranks that wrote it."""
        return self.sharded.loading() if self.sharded else nullcontext()
