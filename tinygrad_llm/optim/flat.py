"""All parameters of one type in one array, their gradients in another.

    flat data       [ wte .......... | wpe .. | qkv.weight ...... | ... ]
    flat gradient   [ ............................................... ]

``parameter.data`` and ``parameter.grad`` become views of the two. An update of the whole model
is then a few passes over long arrays instead of hundreds over short ones, nothing has to be
gathered first, and ops may write gradients where they belong (`Function.gradient_target`). Behind
a table of odd size there may be rows of zeros (`autograd.padding`).

Parameters in half precision keep a float32 copy here, the master weights: an update of 1e-4 of a
weight would vanish in bfloat16, whose steps are 1/256 (Micikevicius et al., "Mixed precision
training", 2017, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.gradient_sink import Counted, GradientSink
from tinygrad_llm.autograd.padding import Padded
from tinygrad_llm.autograd.versions import clock, note_write, was_overwritten
from tinygrad_llm.backend import Array, array_module, device_of, to_device
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.optim.groups import gradient_of, refuse_shared_memory
from tinygrad_llm.optim.protocols import Movable

ALIGNMENT = 16  # elements: each parameter begins at a multiple of 64 bytes


@dataclass
class Slot:
    """A parameter's place in the flat arrays.

    Attributes:
        name: the parameter's name.
        parameter: the leaf Tensor.
        group: number of its parameter group.
        start, stop: its elements; the next slot begins at ``next``, a multiple of ALIGNMENT.
        data: the view of its shape.
        sink: holds the view of the flat gradient.
        steps: how many updates it has had.
        padded: what keeps the rows of zeros behind the two known.
    """

    name: str
    parameter: Tensor
    group: int
    start: int
    stop: int
    next: int
    data: Array
    sink: GradientSink
    steps: int = 0
    padded: tuple[Padded, Padded | None] | None = None

    @property
    def grad(self) -> Array:
        """The part of the flat gradient, of the parameter's shape."""
        return self.sink.array

    def place_gradient(self, flat: Counted) -> None:
        """Let the gradient lie in ``flat`` from now on."""
        self.sink.array = flat.array[self.start : self.stop].reshape(self.data.shape)
        self.sink.flat = flat
        if self.padded:
            of_data, _ = self.padded
            whole = flat.array[self.start :][: of_data.whole.size].reshape(of_data.whole.shape)
            self.padded = of_data, Padded(self.sink.array, whole)


@dataclass(frozen=True)
class Run:
    """Neighbouring slots that are updated alike: elements ``start .. stop - 1``."""

    group: int
    steps: int
    start: int
    stop: int


@dataclass
class FlatBuffer:
    """The parameters of one type on one device.

    Attributes:
        slots: where each stands.
        data: the flat values, of the parameters' type.
        grad: the flat gradients, of that type or float32 where it is half precision.
        master: float32 values of half-precision parameters, otherwise ``data`` itself.
        moments: further arrays of the optimizer, by name, laid out like ``master``.
    """

    slots: list[Slot]
    data: Array
    grad: Array
    master: Array
    moments: dict[str, Array] = field(default_factory=dict)
    written_at: int = 0  # clock time of our own last write

    @property
    def has_master(self) -> bool:
        """Whether the parameters are in half precision."""
        return self.master is not self.data

    def add_moments(self, names: Sequence[str]) -> None:
        """Make the optimizer's own arrays, zero at first."""
        xp = array_module(self.master)
        self.moments = {name: xp.zeros(self.master.shape, self.master.dtype) for name in names}

    def view(self, array: Array, slot: Slot) -> Array:
        """The part of a flat array that belongs to a slot, in the parameter's shape."""
        return array[slot.start : slot.stop].reshape(slot.data.shape)

    def wide_gradient(self, i: int, j: int) -> Array:
        """Gradients i .. j - 1 in the type of ``master``."""
        return self.grad[i:j].astype(self.master.dtype, copy=False)

    def round_master(self, i: int, j: int) -> None:
        """Set half-precision parameters i .. j - 1 to their rounded master weights."""
        if self.has_master:
            self.data[i:j] = self.master[i:j]

    def gather(self) -> None:
        """Bring back what was put elsewhere: values and gradients assigned from outside.

        Raises:
            ConfigError: a parameter has another type or device than when the optimizer was made, or
                the memory of another one.
            GradientError: a gradient was assigned that is no array of the parameter's shape.
        """
        if self.has_master and was_overwritten(self.data, self.written_at):
            self._renew_master()
        moved = [slot for slot in self.slots if slot.parameter.data is not slot.data]
        if moved:
            refuse_shared_memory("optimizer", [(s.name, s.parameter) for s in self.slots])
        for slot in moved:
            self._take_back(slot)
        for slot in self.slots:
            grad = slot.parameter.grad
            if grad is not None and grad is not slot.grad:
                if not slot.sink.is_free():
                    self.leave_gradients()
                slot.grad[...] = gradient_of(slot.name, slot.parameter)
                slot.parameter.grad = slot.grad
            slot.parameter.gradient_sink = slot.sink

    def leave_gradients(self) -> None:
        """Leave the flat gradient to those who hold a part of it, and take a new one.

        Gradients of this pass that lie in the old one are copied.
        """
        of_this_pass = [slot for slot in self.slots if slot.parameter.grad is slot.grad]
        self.grad = to_device(array_module(self.grad).zeros_like(self.grad), device_of(self.grad))
        self.lay_out_gradients()
        for slot in of_this_pass:
            slot.grad[...] = slot.parameter.grad
            slot.parameter.grad = slot.grad

    def lay_out_gradients(self) -> None:
        """Give each slot its view of the flat gradient. Nobody else may have one now."""
        flat = Counted(self.grad)
        for slot in self.slots:
            slot.place_gradient(flat)
        flat.settle()

    def free_gradients(self) -> None:
        """Make sure that gradients can be written to their slots, whatever somebody holds."""
        waiting = [slot for slot in self.slots if slot.parameter.grad is not slot.grad]
        if not all(slot.sink.is_free() for slot in waiting):
            self.leave_gradients()

    def _renew_master(self) -> None:
        """Weights were loaded or edited: follow where they are not the rounded master weights."""
        edited = self.master.astype(self.data.dtype) != self.data
        self.master[edited] = self.data[edited]
        self.written_at = clock.last_write

    def _take_back(self, slot: Slot) -> None:
        data = slot.parameter.data
        if data.shape != slot.data.shape or data.dtype != slot.data.dtype:
            raise ConfigError(_changed(slot, f"{data.shape} of type {data.dtype}"))
        if type(data) is not type(slot.data):
            raise ConfigError(_changed(slot, f"{data.shape} on {slot.parameter.device}"))
        move(slot.parameter, slot.data)
        if self.has_master:
            self.view(self.master, slot)[...] = data

    def runs(self) -> Iterator[Run]:
        """Stretches of parameters that have a gradient, of one group and number of steps."""
        start = stop = -1
        kind = (-1, -1)
        for slot in self.slots:
            if slot.parameter.grad is None:
                continue
            if slot.start != stop or (slot.group, slot.steps) != kind:
                if stop > start:
                    yield Run(*kind, start, stop)
                start, kind = slot.start, (slot.group, slot.steps)
            stop = slot.next
        if stop > start:
            yield Run(*kind, start, stop)

    def gradients(self) -> list[Array]:
        """The gradients there are, in as few arrays as possible."""
        self.gather()
        return [self.grad[run.start : run.stop] for run in self.runs()]

    def finish_step(self) -> None:
        """Count the step of every parameter that had a gradient, and record the write."""
        for slot in self.slots:
            slot.steps += slot.parameter.grad is not None
        self.note_write()

    def note_write(self) -> None:
        """Record that the parameters have new values, written by us."""
        note_write(self.data)
        self.written_at = clock.last_write


def move(parameter: Tensor, place: Array) -> None:
    """Copy a parameter's values to the array ``place`` and let them lie there from now on."""
    if isinstance(parameter, Movable):
        parameter.move_to(place)
    else:
        place[...] = parameter.data
        parameter.data = place


def _changed(slot: Slot, got: str) -> str:
    return (
        f"optimizer: parameter {slot.name!r} was {slot.data.shape} of type {slot.data.dtype} when "
        f"the optimizer was made and is now {got}. Make the optimizer after model.to(...)."
    )
