"""The training loop on several processes.

Each rank computes on its part of every batch; the sums of `distributed.buckets` make the gradient
that of the whole batch, so weights stay the same on all ranks and all that follows from them does
too: what the loop decides (skip, evaluate, save, stop) it decides alike everywhere. Only rank 0
has a folder, logs and saves.

``batch_size`` is that of all ranks together. So a run computes the same whatever the number of
processes, up to the rounding of sums, and may be resumed with another number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.distributed import Communicator, GradientSum, ShardedUpdate, require_equal
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn import GPT
from tinygrad_llm.training.evaluate import Evaluator
from tinygrad_llm.training.loop_settings import TrainingResult
from tinygrad_llm.training.run.assemble import versions
from tinygrad_llm.training.run.checkpoint import read_state
from tinygrad_llm.training.run.session import Session, open_session
from tinygrad_llm.training.run.text import TokenText
from tinygrad_llm.training.settings.config import TrainConfig
from tinygrad_llm.training.trainer import Batch, Trainer

# Reasons to stop; the one with the higher number wins where ranks saw different ones.
_REASONS = ("", "Ctrl-C", "SIGTERM")


class DistributedTrainer(Trainer):
    """A `Trainer` whose steps are computed by several ranks.

    Args:
        world: the ranks.
        shard: each rank keeps its part of the optimizer's state only.
        others: as for `Trainer`; the loader gives this rank's part of each batch.

    Attributes:
        sums: the gradients' buckets.
    """

    def __init__(self, *others: Any, world: Communicator, shard: bool = False, **more: Any) -> None:
        super().__init__(*others, **more)
        self.world = world
        self.sums = GradientSum(self.optimizer, world, scattered=shard)
        self.sharded = ShardedUpdate(self.sums) if shard else None
        if isinstance(self.evaluate, Evaluator):
            self.evaluate = SharedEvaluator(self.evaluate, world)

    def fit(self) -> TrainingResult:
        """Train, from rank 0's weights on all ranks."""
        require_equal(
            self.world,
            {
                "step": self.step,
                "position in the data": self.loader.state(),
                "parameters": [[n, list(p.shape)] for n, p in self.model.named_parameters()],
            },
        )
        for buffer in self.optimizer.buffers:
            buffer.gather()
            self.world.broadcast(buffer.data).wait()
        return super().fit()

    def backward(self, batches: Sequence[Batch]) -> tuple[float, int]:
        """Gradients of the mean loss over the batches of all ranks; returns loss and targets."""
        counts = [self.count_targets(batch) for batch in batches]
        total = max(1, int(self.world.total(sum(counts))[0]))
        mean = 0.0
        with own_stream(self.world):
            for i, (batch, count) in enumerate(zip(batches, counts, strict=True)):
                if i == len(batches) - 1:  # only now are the gradients complete, one by one
                    self.sums.watch()
                loss = self.compute_loss(batch)
                share = count / total
                loss.backward(np.asarray(self.seed(share), loss.dtype))
                mean += float(loss.item()) * share
        self.sums.finish()
        return self.world.total(mean)[0], total

    def clip(self) -> float:
        """Limit the norm of the whole gradient; returns what it was."""
        if self.sharded is None:
            return super().clip()
        return self.sharded.clip(self.settings.clip or float("inf"))

    def update(self) -> None:
        """Change the weights by the gradients."""
        if self.sharded is None:
            super().update()
        else:
            self.sharded.step()

    def agree_to_stop(self, reason: str | None) -> str | None:
        """The reason that any rank has: a signal reaches them at different steps."""
        number = _REASONS.index(reason) if reason in _REASONS else 0
        highest = self.world.highest(number)
        return _REASONS[highest] if highest else reason  # early stopping: all have it

    # ---- saving and resuming -----------------------------------------------------------------

    def save_checkpoint(self) -> None:
        """Rank 0 writes a checkpoint, with the state of all ranks."""
        with self.sharded.collected() if self.sharded else nullcontext():
            super().save_checkpoint()
        self._saved_step = self.step

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, whatever the number of ranks that wrote it."""
        with self.sharded.loading() if self.sharded else nullcontext():
            super().set_state(state)


def trainer_together(config: TrainConfig, world: Communicator) -> Callable[..., Trainer]:
    """The trainer for several ranks.

    Raises:
        ConfigError: float16, whose loss scale is not shared among ranks.
    """
    if config.dtype == "float16":
        raise ConfigError(
            "dtype: float16 trains on one process only. Use bfloat16 or float32 with mpiexec."
        )
    return partial(DistributedTrainer, world=world, shard=config.shard_optimizer)


@contextmanager
def own_stream(world: Communicator) -> Iterator[None]:
    """Inside, each rank has random numbers of its own (dropout); afterwards all have rank 0's."""
    generator = default_generator()
    if world.rank:
        before = generator.state()
        seed = np.random.SeedSequence([*generator.next_key(), world.rank])
        generator.seed(int(seed.generate_state(1, np.uint64)[0]))
    start = generator.state()
    yield
    if generator.state() != start:
        generator.set_state(world.share(generator.state()))
    elif world.rank:
        generator.set_state(before)


class SharedEvaluator:
    """An `Evaluator` whose batches are shared out; all ranks get one process's result, bit by bit.

    Args:
        whole: the evaluator of one process.
        world: the ranks.
    """

    def __init__(self, whole: Evaluator, world: Communicator) -> None:
        self.whole, self.world = whole, world
        whole.measure = self._measure  # type: ignore[method-assign]

    def __call__(self, model: GPT) -> Any:
        """Loss, perplexity and bits per byte."""
        return self.whole(model)

    def _measure(self, model: GPT) -> list[tuple[float, int, int]]:
        batches = list(self.whole.batches())
        table = np.zeros((len(batches), 3))  # each line is not 0 on one rank only: exact sums
        for i in range(self.world.rank, len(batches), self.world.size):
            table[i] = self.whole.measure_batch(model, *batches[i])
        self.world.all_reduce(table).wait()
        return [(nats, int(tokens), int(n_bytes)) for nats, tokens, n_bytes in table.tolist()]


def open_together(
    world: Communicator, chosen: Mapping[str, Any], resume: bool, overwrite: bool
) -> Session:
    """`session.open_session` for all ranks: rank 0 opens the folder, the others read from it.

    Raises:
        DistributedError: the ranks were started with different settings or versions.
        ConfigError, CheckpointError: as `open_session`.
    """
    if world.size == 1:
        return open_session(chosen, resume, overwrite)
    own = versions()
    require_equal(
        world,
        {
            **chosen,
            "--resume": resume,
            "--overwrite": overwrite,
            "version": own["tinygrad_llm"],
            "version of NumPy": own["numpy"],
        },
    )
    session = open_session(chosen, resume, overwrite) if world.rank == 0 else None
    found = world.share(
        session
        and {
            "config": session.config.to_dict(),
            "checkpoint": session.checkpoint and str(session.checkpoint),
        }
    )
    if session is not None:
        return session
    checkpoint = Path(found["checkpoint"]) if found["checkpoint"] else None
    state = read_state(checkpoint) if checkpoint else None
    return Session(TrainConfig.from_dict(found["config"]), None, checkpoint, state)


def require_same_text(world: Communicator, text: TokenText) -> None:
    """Refuse to train on texts that differ between the ranks.

    Raises:
        DistributedError: they do.
    """
    require_equal(world, {"text": text.described, "checksum of the text": text.fingerprint})
