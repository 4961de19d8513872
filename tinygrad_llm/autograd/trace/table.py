"""A trace as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tinygrad_llm.autograd.trace.records import OpRecord
from tinygrad_llm.errors import ConfigError

_KEYS: dict[str, Callable[[OpRecord], str]] = {
    "op": lambda op: op.name,
    "scope": lambda op: op.scope or "(outside modules)",
    "call": lambda op: f"{op.index} {op.scope}{'.' if op.scope else ''}{op.name}",
}


@dataclass
class Row:
    """Sums over the ops that one line stands for. Times in seconds."""

    key: str
    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0
    saved_bytes: int = 0
    ran: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """Forward and backward together."""
        return self.forward + self.backward


def totals(ops: Iterable[OpRecord], by: str) -> list[Row]:
    """The ops summed up by ``"op"``, ``"scope"`` or ``"call"``, the slowest first.

    Raises:
        ConfigError: ``by`` is something else.
    """
    if by not in _KEYS:
        raise ConfigError(f"table: by must be one of {', '.join(_KEYS)}, got {by!r}.")
    rows: dict[str, Row] = {}
    for op in ops:
        row = rows.setdefault(_KEYS[by](op), Row(_KEYS[by](op)))
        row.calls += 1
        row.forward += op.seconds_forward
        row.backward += op.seconds_backward
        row.saved_bytes += op.saved_bytes
        row.ran.update([op.ran] if op.ran else [])
    return sorted(rows.values(), key=lambda row: -row.seconds)


def table(ops: list[OpRecord], peak_saved_bytes: int, by: str, limit: int | None) -> str:
    """The rows as text, with their sum and the memory peak below."""
    rows = totals(ops, by)
    whole = sum(row.seconds for row in rows) or 1.0
    width = max([len(row.key) for row in rows[:limit]] + [len("total"), len(by)])
    head = f"{by:{width}}  calls  forward ms  backward ms  share   saved KiB  ran"
    lines = [head.rstrip(), "-" * len(head)]
    total = Row("total")
    for row in rows:
        total.calls += row.calls
        total.forward += row.forward
        total.backward += row.backward
        total.saved_bytes += row.saved_bytes
    shown = [*rows[:limit], total]
    lines += [_line(row, width, whole) for row in shown]
    if limit is not None and limit < len(rows):
        lines.insert(-1, f"... and {len(rows) - limit} more rows")
    lines.append(f"at most {peak_saved_bytes / 1024:.1f} KiB saved at one time")
    return "\n".join(lines)


def _line(row: Row, width: int, whole: float) -> str:
    return (
        f"{row.key:{width}}  {row.calls:5d}  {1e3 * row.forward:10.3f}  "
        f"{1e3 * row.backward:11.3f}  {row.seconds / whole:5.1%}  "
        f"{row.saved_bytes / 1024:10.1f}  {', '.join(sorted(row.ran))}"
    ).rstrip()
