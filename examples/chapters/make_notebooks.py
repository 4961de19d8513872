"""Make Jupyter notebooks of the chapters.

    python examples/chapters/make_notebooks.py                    # into the folder notebooks/
    python examples/chapters/make_notebooks.py --execute          # run them, with their outputs
    python examples/chapters/make_notebooks.py --out DIR ch03     # only some, elsewhere

The scripts are the source: a notebook is made when it is wanted, and none is kept in the
repository, so the two cannot differ. Needs the extra "docs".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from run_all import chapter_files

from tinygrad_llm.hints import install

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
    """Run all cells in a new kernel; the outputs go into the notebook."""
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=LONGEST, kernel_name="python3", resources=resources).execute()


def main(argv: Sequence[str] | None = None) -> int:
    """Write the notebooks; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python examples/chapters/make_notebooks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chapters", nargs="*", help="beginnings of names, such as ch03")
    parser.add_argument("--out", type=Path, default=Path("notebooks"), help="default: notebooks")
    parser.add_argument("--execute", action="store_true", help="run each from a clean kernel")
    arguments = parser.parse_args(argv)
    try:
        import nbformat
    except ImportError:
        print(f"make_notebooks.py: needs nbformat. {install('docs')}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    for script in chapter_files(arguments.chapters):
        started, notebook = time.perf_counter(), notebook_of(script)
        if arguments.execute:
            execute(notebook, arguments.out)
        target = arguments.out / f"{script.stem}.ipynb"
        nbformat.write(notebook, target)
        print(f"{target}  {time.perf_counter() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
