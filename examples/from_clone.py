"""How the programs of this folder find the package: installed, or in the clone they lie in."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(command: str) -> int:
    """Run a command of the package with the words that follow on the command line."""
    if importlib.util.find_spec("tinygrad_llm") is None:
        sys.path.insert(0, str(ROOT))
    try:
        from tinygrad_llm.__main__ import main
    except ModuleNotFoundError as error:
        print(why_not(error.name or str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while it is imported
        return 130
    return main([*command.split(), *sys.argv[1:]])


def why_not(missing: str) -> str:
    """A package that this Python lacks, and the Python that has it."""
    made = ROOT / ".venv" / "bin" / "python"
    if made.is_file():
        advice = f"Use that of this clone: {made} {' '.join(sys.argv)}"
    else:
        advice = f"Install this clone first: {sys.executable} -m pip install -e '{ROOT}[plot]'"
    return f"This Python ({sys.executable}) has no package {missing}. {advice}"
