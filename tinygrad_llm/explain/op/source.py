"""The source text that explains an op: its methods, the array functions they call, its kernel."""

from __future__ import annotations

import importlib.util
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.registry import Op


def forward_source(op: Op) -> str:
    """Source of ``forward`` and of what it calls within the op modules."""
    return _with_helpers(op.function, "forward")


def backward_source(op: Op) -> str:
    """Source of ``backward`` and of what it calls within the op modules."""
    return _with_helpers(op.function, "backward")


def kernel_file(op: Op) -> Path | None:
    """File of the op's Triton kernel, or None. Nothing of it is imported."""
    spec = importlib.util.find_spec("tinygrad_llm.kernels") if op.kernel else None
    for folder in spec.submodule_search_locations or () if spec else ():
        for name in (f"{op.kernel}.py", f"{op.kernel}_kernel.py"):
            if (Path(folder) / name).is_file():
                return Path(folder) / name
    return None


def _with_helpers(function: Any, method: str) -> str:
    found: dict[str, Any] = {}
    start = getattr(function, method)
    _collect(start, function, found)
    main_part = [f for f in found.values() if method in f.__name__]  # such as linear_backward
    rest = [f for f in found.values() if f not in main_part]
    return "\n\n".join(_source(f) for f in [start, *main_part, *rest])


def _collect(start: Any, owner: type, found: dict[str, Any]) -> None:
    """Put into ``found`` what ``start`` calls, and what that calls, in the order of the calls."""
    scope = inspect.unwrap(start).__globals__
    for name in _names(start.__code__):
        for candidate in _candidates(name, scope, owner):
            if candidate.__qualname__ in found or candidate is start or not _tells(candidate):
                continue
            found[candidate.__qualname__] = candidate
            _collect(candidate, owner, found)


def _candidates(name: str, scope: dict[str, Any], owner: type) -> Iterator[Any]:
    """What ``name`` can mean: a method of the op, a function of the module, a table of such."""
    method = getattr(owner, name, None)
    if isinstance(method, FunctionType) and name not in vars(Function):
        yield method
    value = scope.get(name)
    values = list(value.values()) if isinstance(value, dict) else [value]
    yield from (v for v in values if isinstance(v, FunctionType))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _tells(function: Any) -> bool:
    """True for array code of the op modules; False for checks and errors, which explain nothing."""
    is_check = function.__name__.lstrip("_").startswith("check")
    makes_error = str(function.__annotations__.get("return", "")).endswith("Error")
    module = function.__module__
    is_ours = module.startswith("tinygrad_llm.ops") or not module.startswith("tinygrad_llm")
    return is_ours and not is_check and not makes_error


def _source(function: Any) -> str:
    return textwrap.dedent(inspect.getsource(function)).rstrip()
