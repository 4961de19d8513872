"""The graphs of a captured step, and the device memory through which the host talks to them.

One process records the whole step: forward, backward, norm, clipping, AdamW are one graph, and
nothing waits for the host. Several ranks record it in two parts, and sum in between:

    graph 1   forward, backward            fed: batch, dropout's keys, shares of all targets
    host      sums over the ranks, norm of the whole gradient
    graph 2   AdamW                        fed: learning rates, number of the step, clip factor

NCCL could be recorded, too. But a rank that waits inside a graph waits for ever, where the sums of
`distributed` end after a time limit and name the rank that is missing; and these two graphs are the
same for any communicator, with optimizer state in parts or without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.versions import memory_range
from tinygrad_llm.backend import Array, ArrayModule, array_module, to_numpy
from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.optim import Optimizer
from tinygrad_llm.optim.by_kernel import adamw_by_kernel
from tinygrad_llm.optim.flat import FlatBuffer, Run
from tinygrad_llm.training.loop_settings import IGNORED, Batch, Figures
from tinygrad_llm.training.steps.dropout_keys import DropoutKeys
from tinygrad_llm.training.steps.prefetch import check_alike

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer

FED = ("lr", "params", "names")  # of a parameter group: what each replay is given, or checked apart


class Graph(Protocol):
    """Recorded launches."""

    def replay(self) -> Array:
        """Run them again; returns the array that the recorded function returned."""


Record = Callable[[Callable[[], Array]], Graph]  # kernels.capture


class RecordedStep:
    """A step of one process, as one graph.

    Args:
        trainer: whose step it is.
        batches: the micro-batches of a step; all others must have their shapes and types.
        record: records launches.
    """

    def __init__(self, trainer: Trainer, batches: Sequence[Batch], record: Record) -> None:
        self.trainer, self.optimizer = trainer, trainer.optimizer
        self.xp = array_module(self.optimizer.buffers[0].data)
        self.batches = [
            tuple(self.xp.array(self.xp.asarray(a)) for a in batch) for batch in batches
        ]
        n_groups = len(self.optimizer.param_groups)
        self.numbers = self.xp.zeros(n_groups + 2, np.float32)  # learning rates, step, clip or go
        self.scale = self.xp.ones(1, np.float32) if trainer.precision.scaled else None
        self.keys = DropoutKeys(self.xp, default_generator())
        self._feed_numbers(0.0)  # while recording runs, the weights stay as they are
        _give_back_memory(self.xp)
        self._record(record)
        self.parameters = [(p, p.data, p.requires_grad) for p in trainer.model.parameters()]
        self.places = self._places()
        self.constants = self._constants()

    def _record(self, record: Record) -> None:
        self.graph = record(self._launch)
        self._find_gradients()

    def _find_gradients(self) -> None:
        self.slots = [
            slot
            for buffer in self.optimizer.buffers
            for slot in buffer.slots
            if slot.parameter.grad is not None
        ]

    # ---- what Python has decided while recording ---------------------------------------------

    def _places(self) -> list[int]:
        """Addresses of the flat gradients."""
        return [memory_range(buffer.grad)[0] for buffer in self.optimizer.buffers]

    def _constants(self) -> tuple[object, ...]:
        """What holds for all launches: modes, and settings that are not fed."""
        settings = [
            {key: value for key, value in group.items() if key not in FED}
            for group in self.optimizer.param_groups
        ]
        modes = self.trainer.model.training, current.deterministic, current.kernels
        return modes, self.trainer.settings.clip, settings

    def is_outdated(self) -> bool:
        """Whether the launches read or compute what is no longer the model's or the settings'."""
        if self.places != self._places():
            return True
        return self.constants != self._constants() or any(
            p.data is not data or p.requires_grad != learns for p, data, learns in self.parameters
        )

    # ---- a step: feed, replay, read ----------------------------------------------------------

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """Loss, targets and norm of a step that has changed the weights, unless it overflowed."""
        self._feed_batches(batches)
        self._feed_numbers(1.0)
        self._feed_keys()
        loss, targets, norm = to_numpy(self.graph.replay()).tolist()
        self._show_gradients()
        return loss, int(targets), norm

    def update(self) -> None:
        """Count the step, whose weights the replay has written."""
        self.trainer.world.finish_update()

    def _feed_batches(self, batches: Sequence[Batch]) -> None:
        expected, got = [[len(batch) for batch in step] for step in (self.batches, batches)]
        if expected != got:
            raise ShapeError(
                f"CapturedStep: the step was recorded with {len(expected)} micro-batches of "
                f"{expected[0]} arrays each, got {got}. Make a new trainer for other batches."
            )
        for places, batch in zip(self.batches, batches, strict=True):
            for place, array in zip(places, batch, strict=True):
                array = self.xp.asarray(array)
                check_alike("CapturedStep", place, array)
                place[...] = array

    def _feed_numbers(self, last: float) -> None:
        done = max(slot.steps for buffer in self.optimizer.buffers for slot in buffer.slots)
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.numbers[...] = self.xp.asarray(np.array([*rates, done + 1, last], np.float32))
        if self.scale is not None:
            scale = np.array([self.trainer.precision.scale], np.float32)
            self.scale[...] = self.xp.asarray(scale)

    def _feed_keys(self) -> None:
        keys = self.keys.draw()
        if len(keys):
            self.keys.rows[: len(keys)] = self.xp.asarray(keys)

    def _show_gradients(self) -> None:
        for slot in self.slots:
            slot.parameter.grad = slot.grad  # which the replay has written, whoever forgot it since

    # ---- what is recorded --------------------------------------------------------------------

    def _launch(self) -> Array:
        """The step itself, on the device from beginning to end; (loss, targets, norm)."""
        self.optimizer.zero_grad()
        with self.keys:
            loss, targets = self._backward()
        limit = self.trainer.settings.clip or float(np.finfo(np.float32).max)
        norm_and_factor = kernels().clip_factor(self.optimizer.gradients(), limit)  # (2,)
        norm, factor = norm_and_factor[:1], norm_and_factor[1:]
        if self.scale is not None:
            norm = norm / self.scale
            # limit / max(norm, limit) is min(1, limit / norm), and 0 where the norm is infinite
            factor = limit / (self.xp.maximum(norm + 1e-6, limit) * self.scale)
        self._update(self.trainer.world.runs(), factor * self.numbers[-1:])
        return self.xp.concatenate([loss.reshape(1), targets.reshape(1), norm])

    def _backward(self) -> tuple[Array, Array]:
        """Gradients of the mean over all targets; returns loss and number of targets, ()."""
        counts = [(batch[-1] != IGNORED).sum().astype(np.float32) for batch in self.batches]
        total = sum(counts[1:], counts[0])
        mean = self.xp.zeros((), np.float32)
        for batch, count in zip(self.batches, counts, strict=True):
            loss, reported = self.trainer.compute_losses(batch)
            share = count / self.xp.maximum(total, 1)
            first = share if self.scale is None else share * self.scale.reshape(())
            loss.backward(first.astype(loss.dtype))
            mean = mean + reported.data * share
        return mean, total

    def _update(self, runs: Iterable[tuple[FlatBuffer, Run]], factor: Array) -> None:
        groups = self.optimizer.param_groups
        with _OnDevice(self.optimizer, self.numbers[:-1], factor):
            for buffer, run in runs:
                if not adamw_by_kernel(buffer, run, groups[run.group]):
                    raise kernels().KernelError(
                        "capture: only the kernel of AdamW reads rate, step and clip factor from "
                        f"the GPU, and it does not take {buffer.data.dtype} here"
                    )


class RecordedParts(RecordedStep):
    """A step of one of several ranks: two graphs, and the sums over the ranks between them."""

    def _record(self, record: Record) -> None:
        shape = len(self.batches)
        self.shares = self.xp.zeros(shape, np.float32)  # of all ranks' targets, by micro-batch
        self.firsts = self.xp.zeros(shape, np.float32)  # the same times the scale of the loss
        self.graph = record(self._launch_backward)
        self._find_gradients()
        self.graph_of_update = record(self._launch_update)

    def compute(self, batches: Sequence[Batch]) -> Figures:
        """Loss, targets and norm of the gradient of all ranks; the weights wait for `update`."""
        trainer, world = self.trainer, self.trainer.world
        counts = [trainer.count_targets(batch) for batch in batches]
        total = max(1, int(world.total(sum(counts))))
        shares = np.array(counts, np.float32) / np.float32(total)
        self._feed_batches(batches)
        self.shares[...] = self.xp.asarray(shares)
        self.firsts[...] = self.xp.asarray(shares * np.float32(trainer.precision.scale))
        with world.own_random_numbers():
            self._feed_keys()
        loss = float(to_numpy(self.graph.replay()))
        self._show_gradients()
        world.add_up()
        self.norm = world.norm() / trainer.precision.scale
        return world.total(loss), total, self.norm

    def update(self) -> None:
        """Clip and update by the second graph, exchange the weights, count the step."""
        limit = self.trainer.settings.clip or float("inf")
        factor = min(1.0, limit / (self.norm + 1e-6)) / self.trainer.precision.scale
        self._feed_numbers(factor)
        self.graph_of_update.replay()
        self.trainer.world.finish_update()

    def _launch_backward(self) -> Array:
        """Gradients of this rank, each in its place; returns its part of the mean loss, ()."""
        self.optimizer.zero_grad()
        mean = self.xp.zeros((), np.float32)
        with self.keys:
            for i, batch in enumerate(self.batches):
                loss, reported = self.trainer.compute_losses(batch)
                loss.backward(self.firsts[i].astype(loss.dtype))
                mean = mean + reported.data * self.shares[i]
        self.optimizer.gradients()
        return mean

    def _launch_update(self) -> Array:
        self._update(self.trainer.world.runs(), self.numbers[-1:])
        return self.numbers


class _OnDevice:
    """Inside, the optimizer reads learning rate, step and clip factor from device memory."""

    def __init__(self, optimizer: Optimizer, numbers: Array, clip: Array) -> None:
        self.groups = optimizer.param_groups
        self.numbers, self.clip = numbers, clip

    def __enter__(self) -> None:
        self.rates = [group["lr"] for group in self.groups]
        for i, group in enumerate(self.groups):
            group["lr"] = self.numbers[i : i + 1]
            group["step_on_device"], group["clip_on_device"] = self.numbers[-1:], self.clip

    def __exit__(self, *exc_info: object) -> None:
        for group, rate in zip(self.groups, self.rates, strict=True):
            group["lr"] = rate
            del group["step_on_device"], group["clip_on_device"]


def _give_back_memory(xp: ArrayModule) -> None:
    """Return to the GPU what setting up has left in CuPy's pool; a graph has a pool of its own."""
    if hasattr(xp, "get_default_memory_pool"):
        xp.get_default_memory_pool().free_all_blocks()
