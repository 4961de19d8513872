"""Each rank keeps the optimizer's state of its own part of the parameters, and updates that part.

    gradients   reduce_scatter: rank r gets the sums of its part            (buckets.py)
    norm        squares of the own part, added up over the ranks
    update      AdamW on the own part: its moments exist nowhere else
    weights     all_gather: rank r's new weights go to all

The bytes on the wire are those of an all_reduce, which is a reduce_scatter and an all_gather. The
memory for moments (and for the master weights of half-precision parameters) falls to 1 / N.

Source: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models",
2020, section 5.1 (its first stage).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinygrad_llm.autograd.versions import note_write
from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.distributed.buckets import Bucket, GradientSum
from tinygrad_llm.optim.clip import gradient_norm
from tinygrad_llm.optim.flat import FlatBuffer, Run


class ShardedUpdate:
    """Does the optimizer's step on the elements that this rank owns.

    Args:
        sums: the gradients' buckets, ``scattered``; their bounds say who owns what.

    Attributes:
        parts: per bucket, what this rank owns as a `FlatBuffer` of its own, without slots.
    """

    def __init__(self, sums: GradientSum) -> None:
        self.sums, self.world, self.optimizer = sums, sums.world, sums.optimizer
        self._masters = [buffer.has_master for buffer in self.optimizer.buffers]
        self.parts = [self._part(bucket) for bucket in sums.buckets]
        self._release()

    def _part(self, bucket: Bucket) -> FlatBuffer:
        """Views of the weights, copies of the optimizer's state."""
        whole, own = bucket.buffer, bucket.owned(self.world.rank)
        data = whole.data[own]
        return FlatBuffer(
            [],
            data,
            data[:0],  # gradients are looked up for each step: the flat one may move
            whole.master[own].copy() if whole.has_master else data,
            {name: array[own].copy() for name, array in whole.moments.items()},
            whole.written_at,
        )

    # ---- a step ----------------------------------------------------------------------------------

    def own_gradients(self) -> list[Array]:
        """The part of each bucket that this rank owns, to read and to scale."""
        return [b.buffer.grad[b.owned(self.world.rank)] for b in self.sums.buckets]

    def norm(self) -> float:
        """Norm of the whole gradient, of which each rank knows a part."""
        own = float(gradient_norm(self.own_gradients()))
        return float(self.world.total(own * own)[0] ** 0.5)

    def clip(self, limit: float) -> float:
        """Clip by the norm of the whole gradient; returns what it was."""
        norm = self.norm()
        if limit < norm < float("inf"):
            for gradient in self.own_gradients():
                gradient *= gradient.dtype.type(limit / (norm + 1e-6))
        return norm

    def step(self) -> None:
        """Update the own part, then exchange the weights."""
        self.gather()
        for part, run in self.runs():
            self.optimizer.update(part, run, self.optimizer.param_groups[run.group])
        self.finish_step()

    def gather(self) -> None:
        """Bring back what was assigned from outside; master weights follow edited weights."""
        for buffer in self.optimizer.buffers:
            moved = any(slot.parameter.data is not slot.data for slot in buffer.slots)
            buffer.gather()
            if moved:
                note_write(buffer.data)
        for part in self.parts:
            part.gather()

    def runs(self) -> Iterator[tuple[FlatBuffer, Run]]:
        """What this rank updates: its part of each bucket, and the stretches of it."""
        for bucket, part, grad in zip(
            self.sums.buckets, self.parts, self.own_gradients(), strict=True
        ):
            own, part.grad = bucket.owned(self.world.rank), grad
            for run in bucket.buffer.runs():
                start, stop = max(run.start, own.start), min(run.stop, own.stop)
                if start < stop:
                    yield part, Run(run.group, run.steps, start - own.start, stop - own.start)
            part.grad = part.data[:0]

    def finish_step(self) -> None:
        """The own part has new weights: exchange them, and count the step."""
        self._exchange_weights()
        for buffer in self.optimizer.buffers:
            buffer.finish_step()
        self._note_writes()

    def _exchange_weights(self) -> None:
        works = [
            self.world.all_gather(bucket.buffer.data[bucket.start : bucket.stop], bucket.bounds)
            for bucket in self.sums.buckets
        ]
        for work in works:
            work.wait()

    def _note_writes(self) -> None:
        for bucket, part in zip(self.sums.buckets, self.parts, strict=True):
            part.written_at = bucket.buffer.written_at

    # ---- saving and loading ----------------------------------------------------------------------

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Inside, the optimizer on rank 0 has the whole state, to be saved. All ranks enter."""
        if self.world.rank == 0:
            self._allocate()
        for bucket, part in zip(self.sums.buckets, self.parts, strict=True):
            for name, own in _state(part).items():
                whole = array_module(own).empty(bucket.stop - bucket.start, own.dtype)
                whole[bucket.bounds[self.world.rank] : bucket.bounds[self.world.rank + 1]] = own
                self.world.all_gather(whole, bucket.bounds).wait()
                if self.world.rank == 0:
                    _state(bucket.buffer)[name][bucket.start : bucket.stop] = whole
        yield
        self._release()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Inside, the optimizer takes a whole state; afterwards each rank keeps its part."""
        self._allocate()
        yield
        for bucket, part in zip(self.sums.buckets, self.parts, strict=True):
            for name, own in _state(part).items():
                own[...] = _state(bucket.buffer)[name][bucket.owned(self.world.rank)]
        self._release()
        self._note_writes()

    def _allocate(self) -> None:
        for buffer, has_master in zip(self.optimizer.buffers, self._masters, strict=True):
            if has_master:
                buffer.master = buffer.data.astype(buffer.grad.dtype)
            buffer.add_moments(self.optimizer.moment_names)

    def _release(self) -> None:
        """Let go of the whole state: the parts are what counts."""
        for buffer in self.optimizer.buffers:
            buffer.moments, buffer.master = {}, buffer.data

    def state_bytes(self) -> int:
        """Bytes of optimizer state that this rank keeps."""
        return sum(array.nbytes for part in self.parts for array in _state(part).values())


def _state(buffer: FlatBuffer) -> dict[str, Array]:
    """The arrays of a buffer that only the optimizer knows."""
    return {**buffer.moments, **({"master": buffer.master} if buffer.has_master else {})}
