"""Go to definition: from a name in a file to the place where it is written, by imports alone."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from reading import tree


@dataclass(frozen=True)
class Place:
    """A file, and the class, function or assignment in it; the whole file where there is none."""

    path: Path
    node: ast.AST | None = None

    @property
    def line(self) -> int:
        """Where it begins; 1 for a file."""
        return getattr(self.node, "lineno", 1)

    def mentions(self, name: str) -> bool:
        """Whether the code there uses a (dotted) name."""
        inside = ast.walk(tree(self.path) if self.node is None else self.node)
        return any(isinstance(n, ast.expr) and ast.unparse(n) == name for n in inside)


def definition(root: Path, at: Place, name: str) -> Place:
    """Where the (dotted) name that stands at a place is defined.

    Raises:
        LookupError: it is not used there, or leads out of the repository or to a string.
    """
    if not at.mentions(name):
        raise LookupError(f"{at.path.name}:{at.line}: {name!r} does not stand there")
    first, *rest = name.split(".")
    place = _in_module(root, at.path, first)
    for part in rest:
        if isinstance(place.node, ast.ClassDef):
            inner = [n for n in place.node.body if getattr(n, "name", "") == part]
            if not inner:
                return place  # an inherited method: the class is where to read on
            place = Place(place.path, inner[0])
        else:
            place = _in_module(root, place.path, part)
    return place


def _in_module(root: Path, path: Path, name: str) -> Place:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return Place(path, node)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _imported(root, path, node, alias.name)
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return Place(path, node)
    submodule = _file(root, path.parent, name) if path.name == "__init__.py" else None
    if submodule is None:
        raise LookupError(f"{path.name}: no definition of {name!r}")
    return Place(submodule)


def _imported(root: Path, path: Path, node: ast.ImportFrom, name: str) -> Place:
    if node.level:
        folder = path.parents[node.level - 1]
    else:
        folder = root
    *folders, last = (node.module or "").split(".")
    home = folder.joinpath(*folders)
    submodule = _file(root, home / last, name) if last else _file(root, folder, name)
    if submodule is not None:
        return Place(submodule)
    module = _file(root, home, last)
    if module is None:
        raise LookupError(f"{path.name}: {node.module} is not of this repository")
    return _in_module(root, module, name)


def _file(root: Path, folder: Path, name: str) -> Path | None:
    candidates = (folder / f"{name}.py", folder / name / "__init__.py")
    return next((path for path in candidates if path.exists()), None)
