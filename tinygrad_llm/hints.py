"""Commands to type next, as they work on this machine and from this folder.

A hint that fails when it is pasted is worse than none. So a command is named by the way in which
this Python can be reached from the current folder, its words are quoted, and what is missing is
installed by the names of the packages themselves, which work in a clone as in an installed package.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

SCRIPT = "tinygrad-llm"


def command(*words: object) -> str:
    """How to run a command of this package from here.

    Args:
        words: the command and its arguments, such as ``"generate", Path("runs/a b")``.

    Returns:
        ``"tinygrad-llm generate 'runs/a b'"`` where that finds this installation, otherwise the
        path of the script, or of this Python with ``-m tinygrad_llm``.
    """
    return " ".join([_caller(), *(shlex.quote(str(word)) for word in words)])


def install(extra: str) -> str:
    """How to install what one of this package's extras needs, such as ``"plot"``.

    Returns:
        ``"pip install 'matplotlib>=3.8'"``, with this Python before it where another one's pip
        would be called.
    """
    return f"{_pip()} install {' '.join(map(shlex.quote, requirements(extra)))}"


def install_package(*packages: str) -> str:
    """How to install packages that belong to no extra."""
    return f"{_pip()} install {' '.join(map(shlex.quote, packages))}"


def requirements(extra: str) -> list[str]:
    """What an extra needs on this system, as pip's requirements."""
    try:
        declared = metadata.requires("tinygrad_llm") or []
    except metadata.PackageNotFoundError:  # on the path, but not installed
        return [f"tinygrad_llm[{extra}]"]
    pairs = [line.partition(";")[::2] for line in declared]
    mark = re.compile(rf"""extra\s*==\s*["']{re.escape(extra)}["']""")
    return [need.strip() for need, when in pairs if mark.search(when) and _fits(when)]


def _fits(when: str) -> bool:
    """Whether a requirement's condition on the platform holds (setup.py has only this one)."""
    return "win32" not in when or sys.platform != "win32"


def _caller() -> str:
    script = Path(sysconfig.get_path("scripts")) / SCRIPT
    if not script.is_file():
        return f"{_python()} -m tinygrad_llm"
    return SCRIPT if _is_called_by(SCRIPT, script) else _shown(script)


def _pip() -> str:
    pip = Path(sysconfig.get_path("scripts")) / "pip"
    return "pip" if _is_called_by("pip", pip) else f"{_python()} -m pip"


def _python() -> str:
    for name in ("python", "python3"):
        if _is_called_by(name, Path(sys.executable)):
            return name
    return _shown(Path(sys.executable))


def _is_called_by(name: str, file: Path) -> bool:
    """Whether typing a name runs this file: of all on the path it is the first."""
    found = shutil.which(name)
    # Not resolved: the python of each virtual environment is a link to one and the same.
    return found is not None and os.path.abspath(found) == os.path.abspath(file)


def _shown(file: Path) -> str:
    """A path as one would type it from here: relative below the current folder."""
    try:
        return shlex.quote(str(file.absolute().relative_to(Path.cwd())))
    except (ValueError, OSError):
        return shlex.quote(str(file.absolute()))
