"""One op, explained from its own code and docstring: nothing here is written a second time."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import tinygrad_llm.ops  # noqa: F401  (enters all ops into the registry)
from tinygrad_llm.autograd.registry import Op, get_op
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.op.call import live_check, worked_example
from tinygrad_llm.explain.op.curve import curves, svg_plot, text_plot
from tinygrad_llm.explain.op.list import OpList
from tinygrad_llm.explain.op.source import (
    backward_source,
    composed_source,
    forward_source,
    kernel_files,
)
from tinygrad_llm.explain.typeset.docstring import docstring_html, formula_html

WIDTH = 80  # letters in a line of text
_DERIVATIONS = Path(__file__).resolve().parents[3] / "docs" / "derivations"


@dataclass
class Section:
    """A piece of the page.

    Attributes:
        title: its heading.
        text: what it says.
        code: whether that is Python.
        html: what takes the place of ``text`` in HTML: a picture, typeset formulas.
        folded: whether it is too long to stand in the way: folded in HTML, not printed.
    """

    title: str
    text: str
    code: bool = False
    html: str = ""
    folded: bool = False


class Explanation:
    """Everything there is to say about an op; ``print`` it, or let Jupyter show it.

    Attributes:
        op: the registry's entry.
        sections: the pieces, in order.
        with_kernel: whether the source of its Triton kernel is printed, too.
    """

    def __init__(self, op: Op, sample: int | None = None, with_kernel: bool = False) -> None:
        self.op = op
        self.with_kernel = with_kernel
        self.sections = _sections(op, sample)
        if with_kernel and not any(s.folded for s in self.sections):
            raise ConfigError(f"{op.name} has no Triton kernel: on a GPU CuPy runs its array code.")

    def __str__(self) -> str:
        head = f"{self.op.name}   ({self.op.family})"
        lines = [head, "=" * len(head)]
        for s in self._shown():
            lines += ["", s.title, "-" * len(s.title), s.text]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        lines = [f"# {self.op.name}", "", f"*{self.op.family}*"]
        for s in self._shown():
            fence = "```python" if s.code else "```text"
            lines += ["", f"## {s.title}", "", fence, s.text, "```"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<h2>{html.escape(self.op.name)}</h2><p><i>{html.escape(self.op.family)}</i></p>"]
        for s in self.sections:
            body = s.html or f"<pre>{html.escape(s.text)}</pre>"
            shown = "" if s.folded else " open"
            parts.append(f"<details{shown}><summary><b>{s.title}</b></summary>{body}</details>")
        return "".join(parts)

    def _shown(self) -> list[Section]:
        return [s for s in self.sections if self.with_kernel or not s.folded]


def explain(
    name: str | None = None, sample: int | None = None, kernel: bool = False
) -> Explanation | OpList:
    """Explain an op; without a name, list all ops by family.

    Args:
        name: of the op.
        sample: which of its samples is the example, from 1; by default one that is easy to read.
        kernel: whether the source of its Triton kernel is printed, too.

    Returns:
        an object that prints well and that Jupyter renders.

    Raises:
        ConfigError: there is no such op, and the message lists the nearest names; or it has no such
            sample, or no kernel.
    """
    return OpList() if name is None else Explanation(get_op(name), sample, kernel)


def _sections(op: Op, sample: int | None) -> list[Section]:
    formula, derivation, shapes, source = split_docstring(op.doc)
    sections = [
        Section("Formula", formula, html=formula_html(formula)),
        Section("Derivation", _filled(derivation), html=docstring_html(derivation)),
    ]
    sections += [Section("Shapes", textwrap.fill(shapes, WIDTH))] if shapes else []
    if op.one_variable:
        pair = curves(op)
        sections.append(Section("Plot", text_plot(pair), html=svg_plot(pair)))
    sections += [
        Section("In simple ops, each with a derivative of its own", composed_source(op), code=True),
        Section("Forward", forward_source(op), code=True),
        Section("Backward", backward_source(op, below_forward=True), code=True),
        Section("Example", worked_example(op, sample)),
        Section("Gradient check, run just now", live_check(op)),
    ]
    kernels = kernel_files(op)
    further = _further(op, source, list(kernels))
    sections += [Section("Further", further)] if further else []
    for name, file in kernels.items():
        text = file.read_text(encoding="utf-8").rstrip()
        sections.append(Section(f"Triton kernel: {name}", text, code=True, folded=True))
    return [s for s in sections if s.text]


def _filled(text: str) -> str:
    """Sentences in lines of `WIDTH`; formulas, which are indented or in columns, as they are."""
    blocks = text.split("\n\n")
    return "\n\n".join(
        block if re.search(r"^[ *-]|   ", block, re.M) else textwrap.fill(block, WIDTH)
        for block in blocks
    )


def split_docstring(doc: str) -> tuple[str, str, str, str]:
    """(formula, derivation, shapes, source): the first paragraph, the middle, the marked lines."""
    formula, _, rest = doc.partition("\n\n")
    kept: list[str] = []
    marked = {"Shapes:": "", "Source:": ""}
    mark = ""
    for line in rest.splitlines():
        found = next((m for m in marked if line.startswith(m)), "")
        if found or not line.strip():
            mark = found
        if mark:
            marked[mark] += " " + line.removeprefix(mark).strip()
        else:
            kept.append(line)
    shapes, source = (text.strip() for text in marked.values())
    return formula.strip(), "\n".join(kept).strip("\n"), shapes, source


def _further(op: Op, source: str, kernels: list[str]) -> str:
    lines = [textwrap.fill(source, WIDTH)] if source else []
    module = op.function.__module__
    if module.startswith("tinygrad_llm."):  # not an op of the reader's own
        lines.append(f"Code: {module.replace('.', '/')}.py")
    if kernels:
        lines.append(f"Triton kernel: {', '.join(kernels)} (shown with --kernel)")
    if (_DERIVATIONS / f"{op.name}.md").is_file():
        lines.append(f"Longer derivation: docs/derivations/{op.name}.md")
    return "\n".join(lines)
