"""Commands to type next, as they work on this machine and from this folder.

A hint that fails when it is pasted is worse than none. So a command is named by the way in which
this Python can be reached from the current folder, its words are quoted for a POSIX shell, and what
is missing is installed by the names of the packages themselves, which work in a clone as in an
installed package.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

SCRIPT = "tinygrad-llm"
PACKAGE = "tinygrad_llm"
ROOT = Path(__file__).resolve().parents[1]  # holds the package: a clone, or site-packages
_ALWAYS: dict[tuple[str, str], None] = {}  # (flag, value), in the order in which they came


def command(*words: object) -> str:
    """How to run a command of this package from here.

    Args:
        words: the command and its arguments, such as ``"generate", Path("runs/a b")``.

    Returns:
        ``"tinygrad-llm generate 'runs/a b'"`` where that finds this installation, otherwise the
        path of the script, or of this Python with ``-m tinygrad_llm``.
    """
    flags = [word for pair in _ALWAYS for word in pair]
    return " ".join([_caller(), *_quoted([*words, *flags])])


def as_typed_here(text: str) -> str:
    """A help text whose examples, indented lines, begin as `command` does here."""
    caller = _caller()
    return re.sub(rf"(?m)^( .*?){SCRIPT} ", lambda line: f"{line[1]}{caller} ", text)


def always(flag: str, value: str) -> None:
    """Add a flag to every command that is named from now on, as ``--import my_models.py``."""
    _ALWAYS[flag, value] = None


def install(extra: str) -> str:
    """How to install what one of this package's extras needs, such as ``"plot"``.

    Returns:
        ``"pip install 'matplotlib>=3.8'"``, with this Python before it where another one's pip
        would be called.
    """
    return install_package(*requirements(extra))


def install_package(*packages: str) -> str:
    """How to install packages that belong to no extra."""
    return " ".join([_pip(), *_quoted(packages)])


def requirements(extra: str) -> list[str]:
    """What an extra needs on this system, as pip's requirements."""
    here = _installed(PACKAGE)
    needs = [line.partition(";")[::2] for line in (here.requires if here else None) or []]
    found = [name.strip() for name, when in needs if "extra" in when and _holds(when, extra)]
    if found or not is_clone():
        return found or [f"{PACKAGE}[{extra}]"]
    return ["-e", f"{_shown(ROOT)}[{extra}]"]  # not installed, or before it had this extra


def script() -> Path | None:
    """Where pip has put ``tinygrad-llm`` for this Python, or None where it has not."""
    # In a clone's folder the clone's own egg-info is found first, and it knows of no scripts.
    found = metadata.distributions(name=PACKAGE)
    files = [file for one in found for file in one.files or []]
    places = [Path(str(file.locate())).resolve() for file in files if file.stem == SCRIPT]
    return next(filter(Path.is_file, places), None)


def is_clone() -> bool:
    """Whether the package lies in a clone, among its tests and examples."""
    return (ROOT / "setup.py").is_file()


def _installed(package: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None


def _holds(when: str, extra: str) -> bool:
    """Whether a requirement's condition holds: comparisons joined by "and", as in setup.py."""
    values = {"extra": extra, "sys_platform": sys.platform, "platform_machine": platform.machine()}
    compared = re.findall(r"""(\w+)\s*(==|!=)\s*["']([^"']+)["']""", when)
    return all((values[name] == value) is (sign == "==") for name, sign, value in compared)


def _caller() -> str:
    found = script()
    if found is None:
        return f"{_path_to_clone()}{_python()} -m {PACKAGE}"
    return SCRIPT if _finds(SCRIPT, found) else shlex.quote(_shown(found))


def _path_to_clone() -> str:
    """Where Python is to look for a clone that is not installed, if it would not find it."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    found = str(ROOT) not in sys.path or str(ROOT) in known or _here() == ROOT
    if found or not is_clone():
        return ""
    return f"env PYTHONPATH={shlex.quote(str(ROOT))} "


def _pip() -> str:
    if _installed("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {_python()}"
    pip = Path(sys.executable).with_name("pip")
    return "pip install" if _finds("pip", pip) else f"{_python()} -m pip install"


def _python() -> str:
    here = Path(sys.executable)
    for name in ("python", "python3"):
        # The Pythons of all virtual environments link to one file: the folder tells them apart.
        if _finds(name, here) and Path(shutil.which(name) or "").parent.samefile(here.parent):
            return name
    return shlex.quote(_shown(here))


def _finds(name: str, file: Path) -> bool:
    """Whether typing a name runs this file: of all on the path it is the first."""
    found = shutil.which(name)
    return found is not None and file.is_file() and os.path.samefile(found, file)


def _quoted(words: Iterable[object]) -> list[str]:
    return [_as_word(str(word)) for word in words]


def _as_word(text: str) -> str:
    """A word for a shell; one with control characters in bash's and zsh's form, ``$'a\\nb'``."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_in_dollar_quotes, text)) + "'"


def _in_dollar_quotes(letter: str) -> str:
    if letter in "'\\":
        return f"\\{letter}"
    return letter if letter.isprintable() else "".join(f"\\x{b:02x}" for b in os.fsencode(letter))


def _shown(file: Path) -> str:
    """A path as one would type it from here: relative below the current folder."""
    here = _here()
    if here is None or not file.is_relative_to(here):
        return str(file)
    below = str(file.relative_to(here))
    return below if os.sep in below or below == "." else os.path.join(".", below)


def _here() -> Path | None:
    """The current folder, unless it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
