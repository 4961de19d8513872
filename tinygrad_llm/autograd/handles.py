"""What registering a hook returns."""

from __future__ import annotations

from collections.abc import Callable


class Handle:
    """Takes a hook off again: call it, or its ``remove``, as PyTorch's; once is enough.

    Args:
        remove: what takes it off.
    """

    def __init__(self, remove: Callable[[], None]) -> None:
        self.remove = remove

    def __call__(self) -> None:
        self.remove()
