"""The one exception of this folder, which imports nothing of the package around it."""

from __future__ import annotations


class KernelError(RuntimeError):
    """A kernel cannot take these arguments or cannot run here.

    The message names the kernel, the argument, what was expected, what came and what to do.
    """
