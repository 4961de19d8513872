"""What a gradient check found, as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_FORM = "number, shapes and types of gradients, and an optimizer's arrays for them"


@dataclass
class Comparison:
    """One array's gradient against the finite differences.

    Attributes:
        name: of the input or parameter.
        shape: its shape.
        checked: how many slopes were compared.
        error: the worst relative error, |a - n| / max(|a|, |n|, atol / rtol).
        where: index of the worst element, or "direction k".
        analytic, numeric: the two slopes there.
        passed: error <= rtol.
    """

    name: str
    shape: tuple[int, ...]
    checked: int = 0
    error: float = 0.0
    where: str = ""
    analytic: float = 0.0
    numeric: float = 0.0
    passed: bool = True


@dataclass
class Report:
    """The result of a gradient check: one `Comparison` per input and parameter.

    Attributes:
        entries: the comparisons.
        fault: "", or what makes the slopes not worth comparing: a ``backward`` that did not return
            one gradient per argument, of its shape and type, or another gradient where an
            optimizer provides the array for it.
    """

    entries: list[Comparison] = field(default_factory=list)
    fault: str = ""

    @property
    def passed(self) -> bool:
        """True when every gradient is where and what it must be."""
        return not self.fault and all(e.passed for e in self.entries)

    @property
    def error(self) -> float:
        """The worst relative error of all; infinite where there is a fault."""
        return math.inf if self.fault else max((e.error for e in self.entries), default=0.0)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        if self.fault:
            return f"{_FORM}: WRONG\n{self.fault}"
        width = max([len(e.name) for e in self.entries] + [5])
        lines = [f"{'input':<{width}}  {'shape':<16} {'checked':>7} {'worst error':>12}"]
        for e in self.entries:
            wrong = f"WRONG at {e.where}: {e.analytic:.9g} != {e.numeric:.9g}"
            row = f"{e.name:<{width}}  {e.shape!s:<16} {e.checked:>7} {e.error:>12.2e}"
            lines.append(f"{row}  {'ok' if e.passed else wrong}")
        return "\n".join([*lines, f"{_FORM}: ok"])
