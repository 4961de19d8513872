"""Which file imports which, and where these arrows close to a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from reading import sources, tree


def module_name(root: Path, path: Path) -> str:
    """``tinygrad_llm/ops/gelu.py`` -> ``tinygrad_llm.ops.gelu``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def arrows(root: Path) -> dict[str, set[str]]:
    """Module -> modules that it imports at any depth of its code, except for types alone."""
    files = {module_name(root, p): p for p in sources(root, ("tinygrad_llm",))}
    return {name: _imports(name, path, files) - {name} for name, path in files.items()}


def _imports(name: str, path: Path, files: dict[str, Path]) -> set[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for target, names in _import_statements(tree(path).body, package):
        inner = {f"{target}.{n}" for n in names} & set(files)
        found |= inner
        whole = target in files and len(inner) < len(names or [""])
        if whole and not (name + ".").startswith(
            target + "."
        ):  # a package's own __init__ runs first anyway
            found.add(target)
    return found


def _import_statements(body: list[ast.stmt], package: str) -> Iterator[tuple[str, list[str]]]:
    """(module, names) of each import; ``importlib.import_module("literal")`` counts as one."""
    for node in body:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _import_statements(node.orelse, package)
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - (node.level - 1)]
            prefix = ".".join(base) if node.level else ""
            target = ".".join(filter(None, [prefix, node.module or ""]))
            yield target, [alias.name for alias in node.names]
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.stmt):
                yield from _import_statements([part], package)
            else:
                yield from _literal_imports(part)
        if isinstance(node, ast.Expr | ast.Assign | ast.Return):
            yield from _literal_imports(node)


def _literal_imports(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("import_module"):
            if call.args and isinstance(call.args[0], ast.Constant):
                yield str(call.args[0].value), []


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules each of which reaches all others of the set (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in order:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            circle = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found
