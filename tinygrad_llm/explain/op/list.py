"""All ops of the registry, by family."""

from __future__ import annotations

import textwrap

from tinygrad_llm.autograd.registry import REGISTRY, Op
from tinygrad_llm.hints import command

# From the plainest to what is made of the others; families of a reader's own come last.
FAMILIES = (
    "arithmetic",
    "elementwise",
    "reduction",
    "linear algebra",
    "activation",
    "probabilities",
    "normalization",
    "regularization",
    "layers",
    "attention",
    "loss",
    "selection",
    "shape",
    "conversion",
)
WIDTH = 80  # letters in a line


def ops_by_family() -> list[Op]:
    """All ops, family after family, in each by their order of registration."""
    place = {family: i for i, family in enumerate(FAMILIES)}
    return sorted(REGISTRY.values(), key=lambda op: place.get(op.family, len(place)))


class OpList:
    """What ``tg.explain()`` without a name shows: each op's name and formula under its family."""

    def families(self) -> dict[str, list[Op]]:
        """Family -> its ops."""
        found: dict[str, list[Op]] = {}
        for op in ops_by_family():
            found.setdefault(op.family, []).append(op)
        return found

    def __str__(self) -> str:
        width = max(len(name) for name in REGISTRY)
        lines = []
        for family, ops in self.families().items():
            lines += [family, "-" * len(family)]
            for op in ops:
                row = f"  {op.name:{width}}  {formula(op)}"
                lines += textwrap.wrap(row, WIDTH, subsequent_indent=" " * (width + 6))
            lines.append("")
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
