"""What pages, docstrings and comments name, and what of it there is.

A name that survives the renaming of what it meant sends its reader nowhere. Four kinds are looked
up here: dotted names (`tinygrad_llm.nn.GPT`, `tg.trace`), files and folders (`ops/gelu.py`,
`training/report/`), classes with their attributes (`Tensor.grad`), and identifiers with an
underscore (`layer_norm_forward`). Everything is read from the source, not imported, except what a
dotted name leads to.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import io
import re
import subprocess
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("tinygrad_llm", "kernels", "examples", "benchmarks", "docs")
DOTTED = re.compile(r"(?<![\w./-])(?:tinygrad_llm|tg)(?:\.[A-Za-z_]\w*)+(?![\w/-])")
FILE = re.compile(r"(?<![\w./*<{-])((?:[\w-]+/)*[\w*-]+\.(?:py|md|js|css))(?![\w(])")
FOLDER = re.compile(r"`((?:[\w-]+/)+)`")
QUOTED = re.compile(r"``?([^`\n]+)``?")
CLASS = re.compile(r"([A-Z]\w*[a-z]\w*)(?:\.(\w+))?(?:\(.*\))?")
ATTRIBUTE = re.compile(r"(?<![\w.])([A-Z]\w*[a-z]\w*\.[a-z_]\w*)(?![\w(])")
UNDERSCORED = re.compile(r"(_[a-z][a-z0-9]*|_?[a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?:\(.*\))?")
NO_NAMES = ("NamedTuple", "Protocol", "Generic", "ABC", "object")  # bases without attributes


@functools.cache
def tracked() -> tuple[str, ...]:
    """Every file of the repository, also those not yet committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return tuple(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


def pages() -> list[str]:
    """The pages a reader meets. The change log is none: it names what is gone."""
    return [name for name in tracked() if name.endswith(".md") and name != "CHANGELOG.md"]


def sources() -> list[str]:
    return [name for name in tracked() if name.endswith(".py") and name.split("/")[0] in CODE]


@functools.cache
def parsed(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def texts(name: str) -> list[tuple[int, str]]:
    """(line, text) of a page, or of the docstrings and comments of a source."""
    source = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".md"):
        return list(enumerate(source.splitlines(), 1))
    found = []
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                string = node.body[0].value
                found += enumerate(string.value.split("\n"), string.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append((token.start[0], token.string))
    return found


@functools.cache
def folders() -> frozenset[str]:
    return frozenset(
        parent.as_posix() for name in tracked() for parent in Path(name).parents if parent.name
    )


def is_file(named: str) -> bool:
    """Whether a tracked file ends with these parts; ``*`` stands for any text in a part."""
    pattern = "(.*/)?" + re.escape(named).replace(r"\*", "[^/]*")
    return any(re.fullmatch(pattern, name) for name in tracked())


def is_folder(named: str) -> bool:
    return any(f"/{folder}/".endswith(f"/{named}") for folder in folders())


@functools.cache
def identifiers() -> frozenset[str]:
    """Every name that occurs in the code: defined, used, a keyword, or a string of one word."""
    found: set[str] = set()
    for name in tracked():
        if not name.endswith(".py") or name.startswith("tests/docs/"):
            continue
        found |= set(Path(name).with_suffix("").parts)
        for node in ast.walk(parsed(name)):
            for field in ("id", "attr", "arg", "name", "asname", "module"):
                value = getattr(node, field, None)
                if isinstance(value, str):
                    found.update(value.split("."))
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if re.fullmatch(r"[\w-]+", node.value):
                    found.add(node.value.strip("-").replace("-", "_"))
    return frozenset(found)


@functools.cache
def classes() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Each class of the repository: its own attributes and the names of its bases."""
    found: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for name in sources():
        for node in ast.walk(parsed(name)):
            if not isinstance(node, ast.ClassDef):
                continue
            own = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            own |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
            own |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            slots = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
            own |= {value for value in slots if isinstance(value, str)}
            bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
            before = found.get(node.name, (frozenset(), frozenset()))
            found[node.name] = (before[0] | own, before[1] | bases)
    return found


def has_attribute(name: str, attribute: str) -> bool:
    """Whether a class or a base has the attribute; a base from another library may have it."""
    if name not in classes():
        plain = getattr(builtins, name, object)
        return name not in NO_NAMES and (plain is object or hasattr(plain, attribute))
    own, bases = classes()[name]
    return attribute in own or any(has_attribute(base, attribute) for base in bases - {name})


def dotted(named: str) -> bool:
    """Whether a dotted name leads to something: modules, then attributes, then a class's own."""
    first, *rest = named.split(".")
    here = importlib.import_module("tinygrad_llm")
    path = "tinygrad_llm"
    for i, part in enumerate(rest):
        path += f".{part}"
        try:
            here = getattr(here, part)
        except AttributeError:
            try:
                here = importlib.import_module(path)
            except ImportError:
                known = isinstance(here, type) and here.__name__ in classes()
                return known and i == len(rest) - 1 and has_attribute(here.__name__, part)
    return True


def is_known(word: str) -> bool:
    """Whether a word that looks like a name of this repository is one."""
    if match := CLASS.fullmatch(word):
        name, attribute = match.groups()
        if name not in classes():
            return hasattr(builtins, name) or name in identifiers()
        return attribute is None or has_attribute(name, attribute)
    if match := UNDERSCORED.fullmatch(word):
        index = len(match[1].rpartition("_")[2]) <= 2  # x_ij: mathematics
        return index or match[1] in identifiers()
    return True


def stale(name: str, foreign: frozenset[str]) -> list[str]:
    """What a file names that is not there, each with its line.

    ``foreign`` are names of other projects, and of files that are a reader's own.
    """
    found = []
    for line, text in texts(name):
        wrong = [word for word in DOTTED.findall(text) if not dotted(word)]
        wrong += [word for word in FILE.findall(text) if not is_file(word)]
        wrong += [word for word in FOLDER.findall(text) if not is_folder(word)]
        wrong += [word for word in QUOTED.findall(text) if not is_known(word)]
        wrong += [word for word in ATTRIBUTE.findall(text) if not is_known(word)]
        found += [f"{name}:{line}: {word}" for word in dict.fromkeys(wrong) if word not in foreign]
    return found
