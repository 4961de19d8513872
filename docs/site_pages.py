"""A hook of MkDocs: chapters become pages and notebooks, formulas are typeset (`formulas.py`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File

CHAPTERS = Path(__file__).resolve().parents[1] / "examples" / "chapters"
sys.path[:0] = [str(CHAPTERS), str(Path(__file__).parent)]
from formulas import Formulas  # noqa: E402
from make_notebooks import notebook_of  # noqa: E402
from run_all import chapter_files  # noqa: E402

TOP = (
    "Run it: `python examples/chapters/{name}.py`, or as a [notebook]({name}.ipynb). "
    "What it printed: [numbers](../numbers.md#{name}py).\n\n"
)


def page_of(notebook: Any) -> str:
    """Markdown: text as it is, code in blocks."""
    cells = [
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for cell in notebook.cells
        if cell.source.strip()
    ]
    return "\n\n".join(cells) + "\n"


def on_config(config: Any) -> Any:
    """Add the chapters to the navigation after the book map, and new pages of docs/ at its end."""
    entries = []
    for script in chapter_files():
        title = script.read_text(encoding="utf-8").split("# # ", 1)[1].split("\n", 1)[0]
        entries.append({title: f"chapters/{script.stem}.md"})
    config.markdown_extensions.append(Formulas())
    named = str(config.nav)
    book_map = next(i for i, entry in enumerate(config.nav) if "Book map" in entry)
    config.nav.insert(book_map + 1, {"Chapters": entries})
    pages = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    config.nav.extend(name for name in pages if name not in named)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Generate a page and a notebook for each chapter."""
    for script in chapter_files():
        notebook = notebook_of(script)
        heading, rest = page_of(notebook).split("\n", 1)
        top = TOP.format(name=script.stem)
        page = f"{heading}\n\n{top}{rest}"
        contents = {f"{script.stem}.md": page, f"{script.stem}.ipynb": nbformat.writes(notebook)}
        for name, content in contents.items():
            files.append(File.generated(config, f"chapters/{name}", content=content))
    return files
