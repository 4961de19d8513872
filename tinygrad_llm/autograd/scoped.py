"""Settings of a thread that hold inside a ``with`` block, or inside a decorated function.

    with tg.no_grad(): ...          one block
    @tg.no_grad                     every call of a function; brackets may be left out
    quiet = tg.no_grad()            one object, entered as often as wanted: again inside itself,
    with quiet: ...                 in several threads, and as a decorator

A generator or a coroutine runs in steps, and between two of them the caller runs. Decorated, each
step is inside and the caller is not.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Generator
from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tinygrad_llm.errors import ConfigError

if TYPE_CHECKING:
    from typing import Self

F = TypeVar("F", bound=Callable[..., Any])
_Steps = Generator[object, object, object]


class Scoped:
    """Base: sets ``setting`` of the thread-local ``place``, and puts back what was there.

    Attributes:
        place: class attribute: the ``threading.local`` object that holds the setting.
        setting: class attribute: the name of the setting in it.
    """

    place: ClassVar[threading.local]
    setting: ClassVar[str]
    _before: dict[int, list[object]]  # of each thread that is inside: what to put back, latest last

    def __new__(cls, function: object = None, *args: object, **kwargs: object) -> Any:
        if callable(function) and not isinstance(function, Scoped):  # a decorator, no brackets
            return cls()(function)
        self = super().__new__(cls)
        self._before = {}
        return self

    def inside(self, outside: Any) -> Any:
        """The value inside, given the one outside; every subclass says which."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        outside = getattr(self.place, self.setting)
        setattr(self.place, self.setting, self.inside(outside))
        self._before.setdefault(get_ident(), []).append(outside)
        return self

    def __exit__(self, *exc_info: object) -> None:
        before = self._before.get(get_ident())
        if before:  # else another thread closes an abandoned generator: nothing was set in it
            setattr(self.place, self.setting, before.pop())

    def __call__(self, function: F) -> F:
        """Decorate a function, a generator function or a coroutine function.

        Raises:
            ConfigError: an asynchronous generator, or nothing that can be called.
        """
        name = type(self).__name__
        if not callable(function):
            raise ConfigError(f"{name}: can decorate a function, got {function!r:.60}.")
        if inspect.isasyncgenfunction(function):
            raise ConfigError(
                f"{name}: cannot decorate the asynchronous generator {function.__name__!r}. Write "
                f"`with {name}():` inside it, around what stands between two yields."
            )
        return _decorated(function, self)  # type: ignore[return-value]


def _decorated(function: Callable[..., Any], scope: Scoped) -> Callable[..., object]:
    """``function``, run inside ``scope``, and of the same kind."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def coroutine(*args: object, **kwargs: object) -> object:
            return await _Awaited(function(*args, **kwargs), scope)

        return coroutine
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generator(*args: object, **kwargs: object) -> _Steps:
            return (yield from _steps_inside(function(*args, **kwargs), scope))

        return generator

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        with scope:
            return function(*args, **kwargs)

    return call


class _Awaited:
    """A coroutine of which each step, from one wait to the next, runs inside ``scope``."""

    def __init__(self, coroutine: Awaitable[object], scope: Scoped) -> None:
        self.coroutine, self.scope = coroutine, scope

    def __await__(self) -> _Steps:
        return _steps_inside(self.coroutine.__await__(), self.scope)


def _steps_inside(steps: _Steps, scope: Scoped) -> _Steps:
    """What ``steps`` yields and returns; whatever is sent or thrown in reaches it."""
    resume: Callable[[Any], object] = steps.send
    message: object = None
    while True:
        try:
            with scope:
                result = resume(message)
        except StopIteration as end:
            return end.value
        try:
            message = yield result
            resume = steps.send
        except GeneratorExit:
            with scope:
                steps.close()
            raise
        except BaseException as error:  # thrown in by the caller: the steps may handle it
            resume, message = steps.throw, error
