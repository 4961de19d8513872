"""``--import``: run a module or a file of the user's own, which registers models and ops.

Whoever types it decides which code runs. Nothing in a saved folder can: it holds names only.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from tinygrad_llm import hints
from tinygrad_llm.errors import ConfigError


class ImportAction(argparse.Action):
    """Imports at once, so that what is registered is known to all that follows."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        import_own(values)
        hints.always("--import", values)


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add ``--import``."""
    parser.add_argument(
        "--import",
        action=ImportAction,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        metavar="MODULE",
        help="run a Python file or module of yours first, which registers models or ops; may be "
        "given several times",
    )


def import_own(source: str) -> ModuleType:
    """Import ``my_models`` or ``folder/my_models.py``; its folder is then on the path, too.

    Raises:
        ConfigError: there is no such module, or it fails; says where.
    """
    file = Path(source if source.endswith(".py") else f"{source}.py")
    if not (os.path.isfile(file) or all(map(str.isidentifier, source.split(".")))):
        raise ConfigError(_neither(source, file))
    try:
        if os.path.isfile(file):  # a name that no file can have is none
            return _import_file(file)
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name != source.partition(".")[0]:
            raise ConfigError(f"--import {source}: {error} ({_place(error)}).") from error
        raise ConfigError(_neither(source, file)) from error
    except Exception as error:
        kind = type(error).__name__
        raise ConfigError(f"--import {source}: {kind}: {error} ({_place(error)}).") from error


def _neither(source: str, file: Path) -> str:
    return (
        f"--import {source!r}: there is no file {file} and no module of this name. Give the path "
        "of a file, such as my_models.py."
    )


def _import_file(file: Path) -> ModuleType:
    folder, name = os.path.abspath(file.parent), file.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == os.path.join(folder, file.name):
        return loaded  # a second --import of it
    if loaded is not None or not name.isidentifier():
        raise ConfigError(
            f"--import {file}: {name!r} is the name of another module, or no name. Rename the file."
        )
    if folder not in sys.path:
        sys.path.append(folder)  # behind all others: it must not hide Python's own modules
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, file.name))
    if spec is None or spec.loader is None:
        raise ConfigError(f"--import {file}: is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _place(error: BaseException) -> str:
    """The file and line where an error came up."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"
