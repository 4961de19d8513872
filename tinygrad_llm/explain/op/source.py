"""The source text that explains an op: its methods, the array functions they call, its kernel."""

from __future__ import annotations

import importlib.util
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.registry import Op


def composed_source(op: Op) -> str:
    """Source of the op's composed form: the formula, where ``forward`` is written for speed."""
    composed = op.composed
    if not isinstance(composed, FunctionType) or composed.__name__ == "<lambda>":
        return ""
    return textwrap.dedent(inspect.getsource(composed)).rstrip()


def forward_source(op: Op) -> str:
    """Source of ``forward`` and of what it calls within the op modules."""
    return _joined(_with_helpers(op.function, "forward"))


def backward_source(op: Op, below_forward: bool = False) -> str:
    """Source of ``backward`` and of what it calls within the op modules.

    ``below_forward`` leaves out, and names, what stands in `forward_source` already.
    """
    functions = _with_helpers(op.function, "backward")
    above = _with_helpers(op.function, "forward") if below_forward else []
    text = _joined([f for f in functions if f not in above])
    again = [f.__name__ for f in functions if f in above]
    return f"{text}\n\n# see above: {', '.join(again)}" if again else text


def kernel_files(op: Op) -> dict[str, Path]:
    """Name -> file of the op's Triton kernel, forward first; empty without one.

    Nothing of it is imported.
    """
    spec = importlib.util.find_spec("tinygrad_llm.kernels") if op.kernel else None
    for root in spec.submodule_search_locations or () if spec else ():
        name, place = f"kernels/{op.kernel}_kernel", Path(root) / f"{op.kernel}_kernel"
        if place.is_dir():
            return {f"{name}/{part}.py": place / f"{part}.py" for part in ("forward", "backward")}
        return {f"{name}.py": place.with_suffix(".py")}
    return {}


def _with_helpers(function: type[Function], method: str) -> list[FunctionType]:
    """The method, the functions that bear its name (linear_backward), then all others."""
    found: dict[str, FunctionType] = {}
    start = getattr(function, method)
    _collect(start, function, found)
    main_part = [f for f in found.values() if method in f.__name__]
    return [start, *main_part, *(f for f in found.values() if f not in main_part)]


def _collect(start: FunctionType, owner: type[Function], found: dict[str, FunctionType]) -> None:
    """Put into ``found`` what ``start`` calls, and what that calls, in the order of the calls."""
    scope = inspect.unwrap(start).__globals__
    for name in _names(start.__code__):
        for candidate in _candidates(name, scope, owner):
            if candidate.__qualname__ in found or candidate is start or not _tells(candidate):
                continue
            found[candidate.__qualname__] = candidate
            _collect(candidate, owner, found)


def _candidates(
    name: str, scope: dict[str, object], owner: type[Function]
) -> Iterator[FunctionType]:
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


def _tells(function: FunctionType) -> bool:
    """True for array code of the op modules; False for checks and errors, which explain nothing.

    A check is called so, or says which errors it raises.
    """
    is_check = function.__name__.lstrip("_").startswith("check")
    is_check = is_check or "Raises:" in (function.__doc__ or "")
    makes_error = str(function.__annotations__.get("return", "")).endswith("Error")
    module = function.__module__
    is_ours = module.startswith("tinygrad_llm.ops") or not module.startswith("tinygrad_llm")
    return is_ours and not is_check and not makes_error


def _joined(functions: list[FunctionType]) -> str:
    return "\n\n".join(textwrap.dedent(inspect.getsource(f)).rstrip() for f in functions)
