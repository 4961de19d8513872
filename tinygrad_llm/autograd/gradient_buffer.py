"""A parameter's place in the flat gradient of its optimizer.

    flat gradient       [ wte .......... | wpe .. | qkv.weight ...... | ... ]
    GradientBuffer.array                   ^^^^^^

The backward pass writes a parameter's first gradient there, where the optimizer wants it. Unless
somebody holds what an earlier pass has left: ``g = p.grad`` stays what it was, whatever is computed
after ``zero_grad()``, as it does where each pass makes new arrays. So the place is given out only
while nobody else has a reference to it, or to a part of it; Python counts them anyway. (PyTorch
decides in the same way whether a leaf may take an array over as its gradient.) Whoever holds none
pays for one comparison per parameter. Whoever does is left the memory, and the optimizer takes new
(`optim.flat.FlatBuffer.leave_gradients`).

The same rule keeps two ops from one place. ``linear_cross_entropy`` knows the gradient of its
weight in the forward pass already, writes it there, and holds the array until its ``backward``.
"""

from __future__ import annotations

from sys import getrefcount

import numpy as np

from tinygrad_llm.backend import Array


class Counted:
    """An array, with the number of references to it that are known.

    Attributes:
        array: for a flat gradient, the owner of the memory: views of it count as references.
        known: references that are the optimizer's own.
    """

    __slots__ = ("array", "known")

    def __init__(self, array: Array) -> None:
        self.array, self.known = array, 0

    def settle(self) -> None:
        """From now on the references there are at present are the known ones."""
        self.known = getrefcount(self.array)


class GradientBuffer:
    """Where the gradient of one parameter may be written.

    Args:
        array: the place, of the parameter's shape.
        flat: the array that ``array`` is a part of; None where it stands alone.
    """

    __slots__ = ("array", "flat")

    def __init__(self, array: Array, flat: Counted | None = None) -> None:
        self.array, self.flat = array, flat

    @property
    def dtype(self) -> np.dtype:
        """Type in which the gradients are summed; float32 for a parameter of 16 bits."""
        return self.array.dtype

    def is_free(self) -> bool:
        """Whether nobody else holds the array or a part of it.

        The answer is about a buffer that is not a parameter's ``grad`` at present.
        """
        if getrefcount(self.array) > _ALONE:
            return False
        return self.flat is None or getrefcount(self.flat.array) <= self.flat.known


def _references_to_a_free_array() -> int:
    buffer = GradientBuffer(np.empty(0))
    return getrefcount(buffer.array)


_ALONE = _references_to_a_free_array()
