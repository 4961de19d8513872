"""All ops of the registry, by family."""

from __future__ import annotations

from tinygrad_llm.autograd.registry import REGISTRY, Op
from tinygrad_llm.hints import command


class OpList:
    """What ``tg.explain()`` without a name shows: each op's name and formula under its family."""

    def families(self) -> dict[str, list[Op]]:
        """Family -> its ops, in the order of their registration."""
        found: dict[str, list[Op]] = {}
        for op in REGISTRY.values():
            found.setdefault(op.family, []).append(op)
        return found

    def __str__(self) -> str:
        width = max(len(name) for name in REGISTRY)
        lines = []
        for family, ops in self.families().items():
            lines += [family, "-" * len(family)]
            lines += [f"  {op.name:{width}}  {formula(op)}" for op in ops] + [""]
        return "\n".join([*lines, f"More about one: {command('explain', 'NAME')}"])

    def _repr_markdown_(self) -> str:
        lines = []
        for family, ops in self.families().items():
            lines += [f"### {family}", "", "| op | formula |", "|---|---|"]
            lines += [f"| `{op.name}` | `{formula(op).replace('|', '∣')}` |" for op in ops]
            lines.append("")
        return "\n".join(lines)

    __repr__ = __str__


def formula(op: Op) -> str:
    """The first line of the op's docstring."""
    return op.doc.partition("\n")[0]
