"""Blocks of formulas, as docstrings and pages have them, as HTML tables of MathML.

Two spaces or more part formulas that stand side by side, and remarks beside them. A block of which
a line is no mathematics is none.
"""

from __future__ import annotations

import re
from html import escape

from tinygrad_llm.explain.typeset.mathml import mathml, name

NO_FORMULA = re.compile(r"[`\"#@%&\\$]|\w\.\w*[A-Za-z_]|_[A-Za-z]{3}|\(\)|\*\*|://|--")
RELATION = re.compile(r"(?<![<>!+-])=|->|\+=")
# Within a sentence: x_j, e^x.
INLINE = (
    r"(?<![\w`/.])[A-Za-z]{1,6}\d?'?(?:[_^](?:-?[A-Za-z0-9]{1,2}|\([^()\n]{1,12}\))){1,2}(?![\w(])"
)
CODE = re.compile(r"(?:min|max|[A-Z]{2,})_|d_in$")  # min_lr, BLOCK_M: names of arguments


def cells(line: str) -> list[str]:
    """What stands side by side in a line."""
    line = re.sub(r"(?<=\S) {2,}(?=(=|\+=) )", " ", line)  # names padded up to a column of signs
    line = re.sub(r" {2,}-> +", "  -> ", line)
    return re.split(r" {2,}", line.strip())


def is_formula(cell: str) -> bool:
    """Whether a cell is to be read as a formula and not as a remark beside one."""
    words = [w for w in re.findall(r"(?<![\w^])[A-Za-z]{2,}", cell) if not name(w)]
    return bool(RELATION.search(cell) or cell[0] in "-+[") or not words


def table_row(row: list[str], columns: int) -> str:
    """HTML of a row; the last cell of a short one takes the columns that are left."""
    *first, last = row
    span = f' colspan="{columns - len(first)}"' if len(row) < columns else ""
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in first)}<td{span}>{last}</td></tr>"


def typeset(block: str) -> str | None:
    """HTML of a block of formulas, a table with one line in each row; None if it is none."""
    if NO_FORMULA.search(block) or not re.search(r"(?<![<>!])=", block):
        return None
    rows = []
    try:
        for line in block.rstrip().split("\n"):
            first, *others = cells(line)
            if line[0] == " ":  # a line that goes on, or a remark below
                row = ["", mathml(first) if is_formula(first) else escape(first)]
            else:
                sign = RELATION.search(first)
                if sign is None:
                    return None
                left, right = first[: sign.start()], first[sign.start() :]
                row = [mathml(left), mathml(right)]
            row += [mathml(c) if is_formula(c) else escape(c) for c in others]
            rows.append(row)
    except (ValueError, IndexError):
        return None
    columns = max(map(len, rows))
    body = "".join(table_row(row, columns) for row in rows)
    return f'<table class="formulas">{body}</table>'


def inline(text: str) -> str | None:
    """MathML of a formula within a sentence, which `INLINE` finds; None of other words."""
    if CODE.match(text) or name(re.split("['_^]", text)[0]) is None:  # top_k is no formula
        return None
    try:
        return mathml(text, display=False)
    except (ValueError, IndexError):
        return None
