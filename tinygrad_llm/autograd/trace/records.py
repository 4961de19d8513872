"""The entries of a trace: what is written down about an op, an argument, a gradient, a leaf."""

from __future__ import annotations

from dataclasses import dataclass, field

from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.autograd.trace.values import Copy, Values


@dataclass
class ArrayInfo:
    """Shape and type of an array that was seen, without the array."""

    shape: tuple[int, ...]
    dtype: str
    nbytes: int


@dataclass
class Input(ArrayInfo):
    """One array argument of an op.

    Attributes:
        name: the argument's name in the op's ``forward``.
        position: its place among the positional arguments.
        source: index of the op that made it, or None.
        output: which of that op's results it is.
        leaf: index into ``Trace.leaves`` if it is a parameter or another leaf, or None. An array
            with neither source nor leaf is a constant.
    """

    name: str
    position: int
    source: int | None = None
    output: int = 0
    leaf: int | None = None


@dataclass
class Contribution:
    """A gradient that op ``source`` sent to one of its inputs, from argument ``argument``."""

    source: int
    argument: str
    output: int = 0
    gradient: Copy = None  # NumPy array where the trace keeps values


@dataclass
class OpRecord:
    """One call of an op.

    Attributes:
        index: place in ``Trace.ops``, in the order in which the ops ran.
        name: the op's name in the registry.
        scope: path of the module that called it, "" outside all modules.
        options: arguments that are no arrays.
        saved: the arrays that the node kept for its backward.
        saved_bytes: bytes of those that nobody else kept before: without parameters, without
            data from outside, and without what an earlier op keeps anyway.
        seconds_forward, seconds_backward: wall time of the op itself; 0 where it did not run.
        ran: what computed it, such as ``"triton"``, where the op says so.
        forward_step, backward_step: place in ``Trace.events``; None where it was not walked.
        arrived: the gradients that came from the ops that used the result, in order.
        values: the arrays themselves, or None.
    """

    index: int
    name: str
    scope: str
    inputs: list[Input]
    outputs: list[ArrayInfo]
    options: dict[str, object]
    saved: list[ArrayInfo]
    saved_bytes: int
    requires_grad: bool
    seconds_forward: float
    forward_step: int
    seconds_backward: float = 0.0
    backward_step: int | None = None
    ran: str = ""
    arrived: list[Contribution] = field(default_factory=list)
    values: Values | None = None


@dataclass
class LeafRecord:
    """A parameter (or another tensor made by the user) at which gradients end."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    tensor: TensorBase
    arrived: list[Contribution] = field(default_factory=list)
    value: Copy = None  # NumPy array where the trace keeps values
    named_by: float = float("inf")  # index of the op after whose module and argument it is called
