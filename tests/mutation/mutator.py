"""Small changes to a program that its tests ought to notice.

A mutant is the program with one expression or statement changed: ``<`` for ``<=``, ``+`` for ``-``,
a number by one, an argument not passed on, a statement left out. The changes are found in the
syntax tree, so each mutant is valid Python, and applied to the text, so that all else stays.

What is not changed: docstrings, annotations, messages of errors, what only names or prints, and
what stands outside of functions. Samples and planted mistakes of the registry are no part of the
program either.

Source: DeMillo, Lipton & Sayward, "Hints on test data selection: help for the practicing
programmer", 1978; the operators are among those of Offutt et al., "An experimental determination
of sufficient mutant operators", 1996.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One changed place.

    Attributes:
        file: path under the root of the repository.
        where: name of the function, such as ``"Max.forward"``.
        old, new: the text that is replaced, and what replaces it.
        start: where ``old`` begins in the file, in characters.
        nth: how many equal changes come before it in the same function.
    """

    file: str
    where: str
    old: str
    new: str
    start: int
    nth: int = 0

    @property
    def name(self) -> str:
        """The same while the function's text around it changes: file, function, change."""
        count = f" ({self.nth + 1})" if self.nth else ""
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file} {self.where}: {old} -> {new}{count}"

    def apply(self, source: str) -> str:
        """The source with the change."""
        return source[: self.start] + self.new + source[self.start + len(self.old) :]


COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
NAMES = {
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "sum": "mean",
    "mean": "sum",
    "argmax": "argmin",
    "exp": "expm1",
    "log": "log1p",
    "any": "all",
    "all": "any",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "left": "right",
}


WITHOUT_EFFECT = ("strict", "copy")  # on the result: a guard, and a saving


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of one file, in the order of its text."""
    finder = _Finder(file, source)
    finder.visit(ast.parse(source))
    seen: dict[tuple[str, str, str], int] = {}
    numbered = []
    for where, start, old, new in sorted(finder.found, key=lambda m: (m[1], m[3])):
        nth = seen[where, old, new] = seen.get((where, old, new), -1) + 1
        numbered.append(Mutant(file, where, old, new, start, nth))
    return numbered


def draw(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """``count`` of them, as if at random: those whose hashed names come first.

    So a change elsewhere in the program leaves the choice as it is.
    """

    def rank(mutant: Mutant) -> str:
        return hashlib.sha256(f"{seed} {mutant.name}".encode()).hexdigest()

    return sorted(sorted(mutants, key=rank)[:count], key=lambda m: m.name)


def by_hand(root: Path, file: str, old: str, new: str) -> Mutant:
    """A mutant written down as text, which must occur in the file exactly once."""
    source = (root / file).read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise ValueError(f"{file}: expected once, found {source.count(old)} times: {old!r}")
    return Mutant(file, "by hand", old, new, source.index(old))


class _Finder(ast.NodeVisitor):
    """Walks the functions of a module and notes (function, start, old text, new text)."""

    def __init__(self, file: str, source: str) -> None:
        self.file, self.source = file, source
        self.line_starts = [0]
        for line in source.splitlines(keepends=True):
            self.line_starts.append(self.line_starts[-1] + len(line))
        self.scope: list[str] = []
        self.depth = 0  # of functions
        self.found: list[tuple[str, int, str, str]] = []

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Assert)):
            return
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            self._enter(node)
            return
        if self.depth:
            for new in _changes(node):
                self._note(node, new)
        if _is_whole(node):
            return
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        self.visit(child)

    def _enter(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        """Into a function or class: its body and default values, not its decorators."""
        if _shows_the_op(node, inside=bool(self.scope)) or node.name.endswith("_repr"):
            return
        self.scope.append(node.name)
        is_function = isinstance(node, ast.FunctionDef)
        self.depth += is_function
        defaults = [*node.args.defaults, *node.args.kw_defaults] if is_function else []
        for child in [*defaults, *node.body]:
            if child is not None:
                self.visit(child)
        self.depth -= is_function
        self.scope.pop()

    def _note(self, node: ast.AST, new: str) -> None:
        start, end = (
            self.line_starts[line - 1] + self._characters(line, column)
            for line, column in (
                (node.lineno, node.col_offset),
                (node.end_lineno, node.end_col_offset),
            )
        )
        old = self.source[start:end]
        if new != old:
            self.found.append((".".join(self.scope), start, old, new))

    def _characters(self, line: int, n_bytes: int) -> int:
        text = self.source[self.line_starts[line - 1] : self.line_starts[line]]
        return len(text.encode()[:n_bytes].decode())


def _shows_the_op(node: ast.FunctionDef | ast.ClassDef, inside: bool) -> bool:
    """Samples, planted mistakes, composed forms: what a registry entry says about an op."""
    if isinstance(node, ast.ClassDef) or inside:
        return False
    first = node.args.args[0].arg if node.args.args else ""
    return first in ("rng", "ctx") or node.name.endswith("_composed")


def _is_whole(node: ast.AST) -> bool:
    """Whether nothing is changed inside: -1, where the sign is; arguments without an effect."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.keyword) and node.arg in WITHOUT_EFFECT


def _changes(node: ast.AST) -> Iterator[str]:
    """The texts that may replace a node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = COMPARISONS[type(node.ops[0])]()
        yield f"({ast.unparse(ast.Compare(node.left, [other], node.comparators))})"
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        other = ARITHMETIC[type(node.op)]()
        yield f"({ast.unparse(ast.BinOp(node.left, other, node.right))})"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node.value)
    elif isinstance(node, ast.AugAssign):
        yield from _other_updates(node)
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "pass"
    elif isinstance(node, ast.IfExp):
        yield f"({ast.unparse(ast.IfExp(node.test, node.orelse, node.body))})"


def _other_constants(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        yield str(value + 1)
    elif isinstance(value, float):
        yield str(value * 1.1 if value else 0.1)


def _other_updates(node: ast.AugAssign) -> Iterator[str]:
    if type(node.op) in ARITHMETIC:
        other = ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
        yield ast.unparse(other)
    yield "pass"


def _other_calls(node: ast.Call) -> Iterator[str]:
    """The function's opposite; a keyword argument or the last of several others not passed on."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else None
    if name in NAMES and isinstance(node.func, ast.Attribute):
        func = ast.Attribute(node.func.value, NAMES[name], ast.Load())
        yield ast.unparse(ast.Call(func, node.args, node.keywords))
    for i, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "out", "dtype", *WITHOUT_EFFECT):
            rest = node.keywords[:i] + node.keywords[i + 1 :]
            yield ast.unparse(ast.Call(node.func, node.args, rest))
    if len(node.args) > 3 and not isinstance(node.args[-1], ast.Starred):
        yield ast.unparse(ast.Call(node.func, node.args[:-1], node.keywords))
