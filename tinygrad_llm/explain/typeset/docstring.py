"""The docstring of an op as HTML, and which of its formulas is the one in use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from html import escape

from tinygrad_llm.autograd.registry import REGISTRY, Op
from tinygrad_llm.explain.typeset.blocks import INLINE, inline, typeset

_CONDITION = re.compile(r'With (\w+)="(\w+)"')  # begins the paragraph above a formula
_PIECE = re.compile(rf"`{{1,2}}(?P<code>[^`]+)`{{1,2}}|(?P<formula>{INLINE})")


def formula_in_use(op: Op, options: Mapping[str, object]) -> str:
    """The formula of an op when it is called with these options.

    It is the first paragraph of the docstring, unless a later one begins ``With option="value"``
    and that is the option's value: then it is the block below that line.
    """
    in_use = {**_defaults(op), **options}
    paragraphs = op.doc.split("\n\n")
    for above, below in zip(paragraphs, paragraphs[1:], strict=False):
        condition = _CONDITION.match(above)
        if condition and str(in_use.get(condition[1])) == condition[2] and below.startswith(" "):
            return inspect.cleandoc(below)
    return paragraphs[0]


def _defaults(op: Op) -> dict[str, object]:
    parameters = inspect.signature(op.function.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def names_of_ops(text: str) -> str:
    """The text with `LayerNorm`, the class, called by the op's name, `layer_norm`."""
    names = {op.function.__name__: op.name for op in REGISTRY.values()}
    return re.sub(r"`(\w+)`", lambda m: f"`{names.get(m[1], m[1])}`", text)


def formula_html(formula: str) -> str:
    """A formula, typeset where it is one; otherwise as text."""
    typeset_one = typeset(formula)
    return typeset_one or f'<div class="words">{_sentence(formula)}</div>'


def docstring_html(doc: str) -> str:
    """Paragraphs as paragraphs, indented formulas typeset, other indented blocks as code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", names_of_ops(doc).strip("\n")):
        if not paragraph.startswith(" "):
            parts.append(f"<p>{_sentence(paragraph)}</p>")
            continue
        block = inspect.cleandoc(paragraph)
        parts.append(typeset(block) or f"<pre>{escape(block)}</pre>")
    return "".join(parts)


def _sentence(text: str) -> str:
    """Escaped text; ``code`` in backticks, and formulas as in `INLINE`."""
    parts, end = [], 0
    for match in _PIECE.finditer(text):
        parts.append(escape(text[end : match.start()]))
        code = match["code"]
        parts.append(f"<code>{escape(code)}</code>" if code else inline(match[0]) or match[0])
        end = match.end()
    return "".join(parts) + escape(text[end:])
