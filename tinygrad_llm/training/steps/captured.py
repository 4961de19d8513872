"""A whole training step as one CUDA graph.

A step of GPT-2 124M is about a thousand launches. Python needs some microseconds for each, which on
a fast GPU is longer than many of them run. So the step is recorded once: forward, backward, norm,
clipping, AdamW. From then on one call replays it, and the host only feeds what changes:

    batch, learning rates, number of the step, dropout's keys        host -> device, before
    loss, number of targets, norm of the gradient                    device -> host, after

A step with a NaN or an infinity changes nothing on the device (kernels/adamw_kernel.py), so the
host may find out afterwards. The runs that recording needs are kept from changing the weights by
the same means: their clip factor is 0.

A replay is launches alone, none of the Python around them. So what Python would have noticed
between two steps is looked for before each replay: weights that were loaded or edited reach the
float32 master weights, a parameter of the optimizer that was given another array is put back in
its place (`FlatBuffer.gather`), and where a frozen parameter got another array, other parameters
learn, the flat gradient has moved, or a setting that launches hold as a number has changed, the
step is recorded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.versions import memory_range
from tinygrad_llm.backend import Array, ArrayModule, array_module, to_numpy
from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.errors import ConfigError, KernelError, ShapeError
from tinygrad_llm.optim import AdamW, Optimizer
from tinygrad_llm.optim.by_kernel import adamw_by_kernel
from tinygrad_llm.optim.flat import FlatBuffer, Run
from tinygrad_llm.training.steps.dropout_keys import KeyTape
from tinygrad_llm.training.steps.prefetch import Prefetcher, check_alike
from tinygrad_llm.training.trainer import IGNORED, Batch, Trainer

FED = ("lr", "params", "names")  # of a parameter group: what each replay is given, or checked apart
Record = Callable[[Callable[[], Any]], Any]  # kernels.capture: records launches, to be replayed


class CapturedTrainer(Trainer):
    """A `Trainer` whose steps are replays of a CUDA graph.

    All batches must have one shape and type. `compute_loss` is called while recording only, with
    arrays on the GPU that keep their place; it must not read values back. Each replay writes the
    gradients to the same memory: copy what shall outlive a step.

    Raises:
        ConfigError: the optimizer is not AdamW.
        DeviceError: the model is not on a GPU.
        KernelError: something in the step cannot be recorded; train with ``graph=False``.
        ShapeError, DTypeError: a batch is unlike the first, such as a shorter last one.
    """

    record: Record | None = None  # replaced in tests
    _step: _Recorded | None = None
    _updated = False  # whether a replay has changed the weights that `update` is asked for

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if type(self.optimizer) is not AdamW:
            raise ConfigError(
                "CapturedTrainer: the optimizer must be AdamW, whose kernel reads rate and step "
                f"from the GPU; got {type(self.optimizer).__name__}. Use Trainer for others."
            )
        if not isinstance(self.optimizer.buffers[0].data, np.ndarray):
            self.loader = Prefetcher(self.loader, self.settings.accumulate)

    def compute_gradients(self, batches: Sequence[Batch]) -> tuple[float, int, float]:
        """The whole step, weights included, unless its gradient is not finite."""
        for buffer in self.optimizer.buffers:
            buffer.gather()
        if self._step is None or self._step.is_outdated():
            self._step = None  # gives its memory back
            self._step = self._record(batches)
        self._updated = True
        return self._step(batches)

    def _record(self, batches: Sequence[Batch]) -> _Recorded:
        try:
            return _Recorded(self, batches, self.record or kernels().capture)
        except kernels().KernelError as error:
            raise KernelError(
                f"{error}. Train without a CUDA graph: --no-graph, or graph=False."
            ) from error

    def update(self) -> None:
        """Change the weights by the gradients of `backward`; after a replay only count the step."""
        if not self._updated:
            super().update()
            return
        self._updated = False
        for buffer in self.optimizer.buffers:
            buffer.finish_step()

    def backward(self, batches: Sequence[Batch]) -> tuple[float, int]:
        """Without the graph: for a search of the learning rate, or of the op behind a NaN."""
        self._updated = False
        return super().backward(batches)

    def count_targets(self, batch: Batch) -> int:
        """As in `Trainer`, of targets on the GPU."""
        return int((batch[-1] != IGNORED).sum())

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; the step is recorded anew."""
        super().set_state(state)
        self._step = None


class _Recorded:
    """The recorded step and the device memory through which the host talks to it."""

    def __init__(self, trainer: Trainer, batches: Sequence[Batch], record: Record) -> None:
        self.trainer, self.optimizer = trainer, trainer.optimizer
        self.xp = array_module(self.optimizer.buffers[0].data)
        self.batches = [
            tuple(self.xp.array(self.xp.asarray(a)) for a in batch) for batch in batches
        ]
        n_groups = len(self.optimizer.param_groups)
        self.numbers = self.xp.zeros(n_groups + 2, np.float32)  # learning rates, step, go
        self.tape = KeyTape(self.xp, default_generator())
        self._feed_numbers(go=False)
        _give_back_memory(self.xp)
        self.graph = record(self._launch)
        self.slots = [
            slot
            for buffer in self.optimizer.buffers
            for slot in buffer.slots
            if slot.parameter.grad is not None
        ]
        self.parameters = [(p, p.data, p.requires_grad) for p in trainer.model.parameters()]
        self.places = self._places()
        self.constants = self._constants()

    def _places(self) -> list[int]:
        """Addresses of the flat gradients."""
        return [memory_range(buffer.grad)[0] for buffer in self.optimizer.buffers]

    def _constants(self) -> Any:
        """What Python has decided for all launches: modes, and settings that are not fed."""
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

    def __call__(self, batches: Sequence[Batch]) -> tuple[float, int, float]:
        """Feed, replay, and read the three figures of the step."""
        self._feed_batches(batches)
        self._feed_numbers()
        keys = self.tape.draw()
        if len(keys):
            self.tape.rows[: len(keys)] = self.xp.asarray(keys)
        loss, targets, norm = to_numpy(self.graph.replay()).tolist()
        for slot in self.slots:
            slot.parameter.grad = slot.grad  # which the replay has written, whoever forgot it since
        return loss, int(targets), norm

    def _feed_batches(self, batches: Sequence[Batch]) -> None:
        expected, got = [[len(batch) for batch in step] for step in (self.batches, batches)]
        if expected != got:
            raise ShapeError(
                f"CapturedTrainer: the step was recorded with {len(expected)} micro-batches of "
                f"{expected[0]} arrays each, got {got}. Make a new trainer for other batches."
            )
        for places, batch in zip(self.batches, batches, strict=True):
            for place, array in zip(places, batch, strict=True):
                array = self.xp.asarray(array)
                check_alike("CapturedTrainer", place, array)
                place[...] = array

    def _feed_numbers(self, go: bool = True) -> None:
        done = max(slot.steps for buffer in self.optimizer.buffers for slot in buffer.slots)
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.numbers[...] = self.xp.asarray(np.array([*rates, done + 1, go], np.float32))

    def _launch(self) -> Array:
        """The step itself, on the device from beginning to end; (loss, targets, norm)."""
        trainer, optimizer = self.trainer, self.optimizer
        optimizer.zero_grad()
        with self.tape:
            loss, targets = self._backward()
        limit = trainer.settings.clip or float(np.finfo(np.float32).max)
        norm_and_factor = kernels().clip_factor(optimizer.gradients(), limit)  # (2,)
        with _OnDevice(optimizer, self.numbers[:-1], norm_and_factor[1:] * self.numbers[-1:]):
            for buffer in optimizer.buffers:
                for run in buffer.runs():
                    self._update(buffer, run)
        figures = [loss.reshape(1), targets.reshape(1), norm_and_factor[:1]]
        return self.xp.concatenate(figures)

    def _update(self, buffer: FlatBuffer, run: Run) -> None:
        if not adamw_by_kernel(buffer, run, self.optimizer.param_groups[run.group]):
            raise kernels().KernelError(
                "capture: only the kernel of AdamW reads rate, step and clip factor from the GPU, "
                f"and it does not take {buffer.data.dtype} here"
            )

    def _backward(self) -> tuple[Array, Array]:
        """Gradients of the mean over all targets; returns loss and number of targets, ()."""
        counts = [(batch[-1] != IGNORED).sum().astype(np.float32) for batch in self.batches]
        total = sum(counts[1:], counts[0])
        mean = self.xp.zeros((), np.float32)
        for batch, count in zip(self.batches, counts, strict=True):
            loss: Tensor = self.trainer.compute_loss(batch)
            share = count / self.xp.maximum(total, 1)
            loss.backward(share.astype(loss.dtype))
            mean = mean + loss.data * share
        return mean, total


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
