"""Make Jupyter notebooks of the chapters, with the exercises at the end of each.

    python examples/chapters/make_notebooks.py                    # into the folder notebooks/
    python examples/chapters/make_notebooks.py --execute          # run them: numbers and figures
    python examples/chapters/make_notebooks.py --out DIR ch03     # only some, elsewhere
    python examples/chapters/make_notebooks.py --record ch03      # run, and renew the site's page

The scripts are the source: a notebook is made when it is wanted, and none is kept in the
repository, so the two cannot differ. Needs the packages of the extra "docs".
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import outputs
from run_all import chapter_files, solutions_of

from tinygrad_llm import hints
from tinygrad_llm.errors import ConfigError, MissingDependencyError

NEEDED = ("jupytext", "nbformat", "nbclient", "ipykernel")
LONGEST = 600  # seconds for one cell, on a busy machine


def notebook_of(script: Path) -> Any:
    """The script's cells as a notebook without outputs."""
    import jupytext

    notebook = jupytext.read(script)
    for cell in notebook.cells:  # a note to the formatter, of no use to a reader
        cell.source = cell.source.replace("  # fmt: skip", "")
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    return notebook


def execute(notebook: Any, folder: Path) -> None:
    """Run all cells in a new kernel; the outputs go into the notebook.

    A cell that ends the program (``sys.exit``) is the last that runs.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    # IPython colours what it prints, which a page would show as letters. The kernel talks to this
    # process only, so its warning about networks is of no use.
    os.environ["NO_COLOR"] = "1"
    client = NotebookClient(
        notebook,
        timeout=LONGEST,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        client.execute()
    except CellExecutionError as error:
        if error.ename != "SystemExit":
            raise


def record(script: Path) -> None:
    """Run a chapter or its solutions in an empty folder and keep what comes out for the site."""
    notebook = notebook_of(script)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
    outputs.record(script, notebook)


def write(script: Path, folder: Path, run: bool) -> Path:
    """Make one notebook; returns its path."""
    import nbformat

    notebook = notebook_of(script)
    if run:
        execute(notebook, folder)
    target = folder / f"{script.stem}.ipynb"
    nbformat.write(notebook, target)
    return target


def how_to_open(folder: Path) -> str:
    """What to type next."""
    program = f"jupyter lab {shlex.quote(str(folder))}"
    if importlib.util.find_spec("jupyterlab"):
        return f"Open them: {program}"
    install = hints.install_package("jupyterlab")
    return f"Open them in an editor for notebooks, or with JupyterLab: {install}; {program}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python examples/chapters/make_notebooks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chapters", nargs="*", help="parts of names, such as ch03 or lora")
    parser.add_argument("--out", type=Path, default=Path("notebooks"), help="default: notebooks")
    parser.add_argument("--execute", action="store_true", help="run each from a clean kernel")
    parser.add_argument(
        "--record",
        action="store_true",
        help="run each and its solutions, and keep the outputs for the site; writes no notebook",
    )
    return parser


def check_packages() -> None:
    """Raises MissingDependencyError, with what to install."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise MissingDependencyError(
            f"notebooks need {', '.join(missing)}. Install it with: {hints.install('docs')}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the notebooks; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        check_packages()
        scripts = chapter_files(arguments.chapters)
    except (MissingDependencyError, ConfigError) as error:
        print(f"make_notebooks.py: {error}", file=sys.stderr)
        return 2
    if not arguments.record:
        arguments.out.mkdir(parents=True, exist_ok=True)
    for script in scripts:
        started = time.perf_counter()
        if arguments.record:
            record(script)
            record(solutions_of(script))
            target = outputs.kept_at(script)
        else:
            target = write(script, arguments.out, arguments.execute)
        print(f"{target}  {time.perf_counter() - started:.1f} s", flush=True)
    if not arguments.record:
        print(how_to_open(arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
