"""Gradients are added up over the ranks while the backward pass still runs.

    flat gradient   [ wte ....... | wpe | block 0 ..... | block 1 ..... | norms and biases ]
    buckets         [ 0           | 1               | 2                 | 3                ]

The backward pass fills the flat gradient from its last layer to its first. As soon as all
parameters of a bucket have all their contributions, its sum over the ranks begins, and the
network works beside the processor. How many contributions a parameter gets (a tied embedding gets
two) is learned in the first backward pass, which sums everything at its end. Its order on rank 0
is then the order for all ranks, because all must call the same operations in the same order.

Source: Li et al., "PyTorch Distributed: experiences on accelerating data parallel training", 2020,
section 3.2.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.distributed.communicator import Communicator, Work, even_bounds
from tinygrad_llm.errors import DistributedError
from tinygrad_llm.optim.flat import ALIGNMENT, FlatBuffer, Slot
from tinygrad_llm.optim.optimizer import Optimizer

BUCKET_BYTES = 4 * 2**20  # long enough for the bandwidth, short enough to begin early


@dataclass
class Bucket:
    """Neighbouring parameters whose gradients are summed in one operation.

    Attributes:
        buffer: the flat buffer they stand in.
        start, stop: the elements.
        slots: the parameters.
        bounds: rank r owns elements ``start + bounds[r] .. start + bounds[r + 1] - 1``.
        missing: contributions that have not arrived yet in this backward pass.
        work: the sum, once it has begun.
    """

    buffer: FlatBuffer
    start: int
    stop: int
    slots: list[Slot]
    bounds: list[int]
    missing: int = 0
    work: Work | None = None

    def owned(self, rank: int) -> slice:
        """The elements that a rank owns."""
        return slice(self.start + self.bounds[rank], self.start + self.bounds[rank + 1])


@dataclass
class Span:
    """When something happened, in seconds of `time.perf_counter`: for timelines."""

    name: str
    start: float
    stop: float = 0.0


def make_buckets(buffers: Sequence[FlatBuffer], size: int, n_bytes: int) -> list[Bucket]:
    """Cut flat buffers at parameters, and at group borders, into buckets of about ``n_bytes``.

    A parameter is not cut: one that is larger than ``n_bytes`` is a bucket by itself.
    """
    buckets = []
    for buffer in buffers:
        slots: list[Slot] = []
        for slot in buffer.slots:
            if slots and (_bytes(buffer, slots, slot) > n_bytes or slot.group != slots[0].group):
                buckets.append(_make_bucket(buffer, slots, size))
                slots = []
            slots.append(slot)
        buckets.append(_make_bucket(buffer, slots, size))
    return buckets


def _bytes(buffer: FlatBuffer, slots: list[Slot], last: Slot) -> int:
    return (last.next - slots[0].start) * buffer.grad.itemsize


def _make_bucket(buffer: FlatBuffer, slots: list[Slot], size: int) -> Bucket:
    start, stop = slots[0].start, slots[-1].next
    return Bucket(buffer, start, stop, slots, even_bounds(stop - start, size, ALIGNMENT))


@dataclass
class GradientSum:
    """Sums the gradients of an optimizer's parameters over the ranks.

    Args:
        optimizer: its flat buffers are cut into buckets.
        world: the ranks.
        scattered: each rank needs the sums of the elements it owns only (`sharded`).
        n_bytes: size of a bucket.

    Attributes:
        buckets: in the order of the flat buffers.
        spans: when each bucket's sum began and was found done; kept if ``keep_spans``.
    """

    optimizer: Optimizer
    world: Communicator
    scattered: bool = False
    n_bytes: int = BUCKET_BYTES
    keep_spans: bool = False
    spans: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.buckets = make_buckets(self.optimizer.buffers, self.world.size, self.n_bytes)
        self._bucket_of: dict[int, Bucket] = {}
        for bucket in self.buckets:
            for slot in bucket.slots:
                self._bucket_of[id(slot.parameter)] = bucket
        self._expected: dict[int, int] = {}  # contributions to each parameter, once learned
        self._seen: dict[int, int] = {}
        self._order: list[int] = []  # buckets in the order in which their sums begin
        self._begun = 0

    # ---- one backward pass: watch, then finish ---------------------------------------------------

    def watch(self) -> None:
        """Call before the loss of the last backward pass of a step: sums may begin from now on."""
        self._seen, self._begun = {}, 0
        for buffer in self.optimizer.buffers:
            buffer.free_gradients()
        for bucket in self.buckets:
            bucket.work = None
            bucket.missing = sum(self._expected.get(id(s.parameter), 0) for s in bucket.slots)
        for slot in self._slots():
            slot.parameter.gradient_sink = slot.sink  # taken off where values were loaded since
            slot.sink.arrived = self._note

    def finish(self) -> None:
        """Call after it: begins what has not begun, and returns when all sums are there.

        Raises:
            DistributedError: the ranks do not use the same parameters, or one does not answer.
        """
        for slot in self._slots():
            slot.sink.arrived = None
        if not self._expected:
            self._learn()
        self._complete()
        for slot in self._slots():
            if id(slot.parameter) in self._expected:
                slot.parameter.grad = slot.grad

    def add_up(self) -> None:
        """Sum gradients that are complete already: those of a replayed graph tell of no arrival.

        Raises:
            DistributedError: the ranks do not use the same parameters, or one does not answer.
        """
        if not self._order:
            self._seen = {id(s.parameter): 1 for s in self._slots() if s.parameter.grad is not None}
            self._learn()
            self._expected = {}  # how many contributions there are, a backward pass will show
        self._begun = 0
        self._complete()

    def _complete(self) -> None:
        """Begin the sums that have not begun, and wait for all."""
        for number in self._order[self._begun :]:
            self._begin(self.buckets[number])
        for number in self._order:
            bucket = self.buckets[number]
            if bucket.work is not None:
                bucket.work.wait()

    def _note(self, parameter: TensorBase) -> None:
        """A contribution has arrived at a parameter."""
        key = id(parameter)
        self._seen[key] = self._seen.pop(key, 0) + 1  # whose last one came last stands last
        if not self._expected:
            return
        bucket = self._bucket_of[key]
        bucket.missing -= 1
        if self._seen[key] > self._expected.get(key, 0):
            raise self._another_graph(bucket, parameter)
        while self._begun < len(self._order):
            following = self.buckets[self._order[self._begun]]
            if following.missing > 0:
                break
            self._begin(following)
            self._begun += 1
        for other in self.buckets:  # a transfer moves on only while it is asked about
            if other.work is not None:
                other.work.test()

    def _begin(self, bucket: Bucket) -> None:
        part = bucket.buffer.grad[bucket.start : bucket.stop]
        for slot in bucket.slots:
            grad = slot.parameter.grad
            if grad is None:
                slot.grad[...] = 0
            elif grad is not slot.grad:
                slot.grad[...] = grad
                slot.parameter.grad = slot.grad
        if self.scattered:
            work = self.world.reduce_scatter(part, bucket.bounds)
        else:
            work = self.world.all_reduce(part)
        bucket.work = self._timed(work, bucket) if self.keep_spans else work

    def _timed(self, work: Work, bucket: Bucket) -> Work:
        span = Span(f"bucket {self.buckets.index(bucket)}", time.perf_counter())
        self.spans.append(span)

        def note_end() -> None:
            span.stop = time.perf_counter()

        return Work(work.wait, work.test, note_end)

    # ---- learning ----------------------------------------------------------------------------

    def _learn(self) -> None:
        """Settle which parameters get a gradient, how often, and the order of the buckets."""
        names = [slot.name for slot in self._slots() if id(slot.parameter) in self._seen]
        theirs = self.world.share(sorted(names))
        self._refuse_differing(names, theirs)
        self._expected = dict(self._seen)
        done = {key: number for number, key in enumerate(self._seen)}  # by last contribution
        last = [max(done.get(id(s.parameter), -1) for s in b.slots) for b in self.buckets]
        used = [i for i in range(len(self.buckets)) if last[i] >= 0]
        self._order = self.world.share(sorted(used, key=lambda i: last[i]))

    def _refuse_differing(self, mine: list[str], theirs: list[str]) -> None:
        different = sorted(set(mine) ^ set(theirs))
        if different:
            raise DistributedError(
                f"gradients: rank {self.world.rank} has gradients for other parameters than rank 0 "
                f"({', '.join(different[:3])}). All ranks must run the same model; freeze what is "
                "not used by all (requires_grad=False)."
            )

    def _another_graph(self, bucket: Bucket, parameter: TensorBase) -> DistributedError:
        name = next(slot.name for slot in bucket.slots if slot.parameter is parameter)
        return DistributedError(
            f"gradients: parameter {name!r} got a gradient {self._seen[id(parameter)]} times, in "
            f"the first step {self._expected.get(id(parameter), 0)} times; its sum over the ranks "
            "has begun already. Use the same graph in every step."
        )

    def _slots(self) -> list[Slot]:
        return [slot for buffer in self.optimizer.buffers for slot in buffer.slots]
