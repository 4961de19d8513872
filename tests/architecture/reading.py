"""What can be read from the source of a checkout: files, imports, annotations, sizes, repetitions.

Nothing is imported from the checkout, so that one of another day can be measured, too.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOMS = ("tinygrad_llm", "kernels", "examples", "benchmarks")
LONGEST_FILE, LONGEST_FUNCTION = 300, 40
REPEATED = 4  # lines in a row that stand in two places


@cache
def tree(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def sources(root: Path, rooms: tuple[str, ...] = ROOMS) -> list[Path]:
    """The Python files of the given rooms."""
    return [p for room in rooms for p in sorted((root / room).rglob("*.py"))]


def package_of(root: Path, path: Path) -> str:
    """``tinygrad_llm/ops/x.py`` is in ``ops``, ``tinygrad_llm/names.py`` in ``names``."""
    parts = path.relative_to(root).with_suffix("").parts
    return parts[1] if parts[0] == "tinygrad_llm" and len(parts) > 1 else parts[0]


# ---- annotations -------------------------------------------------------------------------------


def annotations(node: ast.AST) -> Iterator[ast.expr]:
    """Those of arguments, results and attributes."""
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and part.returns is not None:
            yield part.returns
        elif isinstance(part, (ast.arg, ast.AnnAssign)) and part.annotation is not None:
            yield part.annotation


def aliases_of_any(root: Path) -> set[str]:
    """Names that mean Any: ``Edge = Any``."""
    found = {"Any"}
    for path in sources(root):
        for node in tree(path).body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign) and isinstance(value, ast.Name) and value.id == "Any":
                found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
            if isinstance(node, ast.AnnAssign) and isinstance(value, ast.Name):
                if value.id == "Any" and isinstance(node.target, ast.Name):
                    found.add(node.target.id)
    return found


def is_any(annotation: ast.expr, names: set[str]) -> bool:
    """Whether Any, or a name that means it, occurs in an annotation."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    for part in ast.walk(annotation):
        if isinstance(part, ast.Name) and part.id in names:
            return True
        if isinstance(part, ast.Attribute) and part.attr == "Any":
            return True
    return False


def share_of_any(root: Path) -> dict[str, tuple[int, int]]:
    """Package -> (annotations in which Any occurs, all annotations)."""
    names = aliases_of_any(root)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path in sources(root):
        count = counts[package_of(root, path)]
        for annotation in annotations(tree(path)):
            count[0] += is_any(annotation, names)
            count[1] += 1
    return {name: (count[0], count[1]) for name, count in counts.items()}


# ---- sizes -------------------------------------------------------------------------------------


def long_files(root: Path) -> list[str]:
    """Files of more than 300 lines."""
    return [
        f"{path.relative_to(root)} {n}"
        for path in [*sources(root), *sorted((root / "tests").rglob("*.py"))]
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    ]


def long_functions(root: Path) -> list[str]:
    """Functions whose statements, without signature and docstring, take more than 40 lines."""
    found = []
    for path in sources(root):
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = 1 if ast.get_docstring(node) is not None else 0
                body = node.body[first:]
                n = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                if n > LONGEST_FUNCTION:
                    found.append(f"{path.relative_to(root)}:{node.name} {n}")
    return found


def repeated(root: Path) -> list[str]:
    """Places where four lines of code in a row stand word for word in another place, too."""
    seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in sources(root, ("tinygrad_llm", "kernels")):
        lines = _statements(path)
        for i in range(len(lines) - REPEATED + 1):
            window = lines[i : i + REPEATED]
            text = tuple(line for _, line in window)
            if sum(map(len, text)) > 20 * REPEATED:  # closing brackets and else: are no copies
                seen[text].add(f"{path.relative_to(root)}:{window[0][0]}")
    places = sorted(place for where in seen.values() if len(where) > 1 for place in where)
    return _first_of_each_run(places)


def _statements(path: Path) -> list[tuple[int, str]]:
    """Lines inside functions, without docstrings and comments."""
    text = path.read_text(encoding="utf-8").splitlines()
    kept: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            for part in body:
                kept |= set(range(part.lineno, (part.end_lineno or 0) + 1))
    return [
        (n, line.strip())
        for n, line in enumerate(text, 1)
        if n in kept and line.strip() and not line.strip().startswith("#")
    ]


def _first_of_each_run(places: list[str]) -> list[str]:
    """Of windows that begin in consecutive lines, the first."""
    known = set(places)
    first = []
    for place in places:
        path, line = place.rsplit(":", 1)
        if f"{path}:{int(line) - 1}" not in known:
            first.append(place)
    return first
