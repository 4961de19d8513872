"""The formulas of pages and docstrings, typeset on the site: an extension of Markdown.

In the source a formula is text, in the letters of the code, so that it can be read in an editor, in
a terminal, and beside the lines that compute it:

    y_i = e^(x_i) / s,      s = sum over j of e^(x_j)

On the site such a block becomes MathML (`tinygrad_llm/explain/typeset`, which the study page uses,
too). A block of which a line is no mathematics stays what it was: code.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from markdown import Extension
from markdown.blockprocessors import BlockProcessor
from markdown.inlinepatterns import InlineProcessor

from tinygrad_llm.explain.typeset.blocks import INLINE, inline, typeset

# A paragraph that is one formula, or one in each of several lines.
ALONE = re.compile(
    r"[A-Za-z]{1,3}(?:_[a-z]{1,2})? = [^\n]*[^\n.:]|[A-Za-z]+ += [^\n]+(?:\n[A-Za-z]+ += [^\n]+)+"
)


class FormulaBlocks(BlockProcessor):
    """Indented blocks that are formulas; others are left to Markdown, which takes them for code.

    A paragraph that is one formula is set like a block: docstrings of ops begin with one.
    """

    def test(self, parent: ElementTree.Element, block: str) -> bool:
        return block.startswith(" " * self.tab_length) or ALONE.fullmatch(block) is not None

    def run(self, parent: ElementTree.Element, blocks: list[str]) -> bool | None:
        lines, rest = blocks[0], ""
        if lines.startswith(" "):
            lines, rest = self.detab(lines)
        html = typeset(lines)
        if html is None or rest.strip():
            return False
        blocks.pop(0)
        element = ElementTree.SubElement(parent, "div", {"class": "formulas"})
        element.text = self.parser.md.htmlStash.store(html)
        return None


class InlineFormulas(InlineProcessor):
    """``x_j`` and ``e^x`` within a sentence."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, int, int]:
        html = inline(m[0])
        found = html and self.md.htmlStash.store(html)
        return found or None, m.start(0), m.end(0)


class Formulas(Extension):
    """Registers both with Markdown."""

    def extendMarkdown(self, md: Any) -> None:
        md.parser.blockprocessors.register(FormulaBlocks(md.parser), "formulas", 85)
        md.inlinePatterns.register(InlineFormulas(INLINE, md), "inline formulas", 65)


def makeExtension(**options: Any) -> Formulas:
    """Called by Markdown when mkdocs.yml names this module."""
    return Formulas(**options)
