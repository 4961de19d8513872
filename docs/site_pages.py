"""A hook of MkDocs: chapters become pages and notebooks, formulas are typeset (`formulas.py`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File

CHAPTERS = Path(__file__).resolve().parents[1] / "examples" / "chapters"
sys.path[:0] = [str(CHAPTERS), str(Path(__file__).parent)]
from chapter_pages import page_of, pictures_of  # noqa: E402
from formulas import Formulas  # noqa: E402
from make_notebooks import notebook_of  # noqa: E402
from run_all import chapter_files  # noqa: E402


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


def on_page_markdown(markdown: str, page: Any, **_: Any) -> None:
    """Short answers come first in the search, and the reference, which has most words, last."""
    name = page.file.src_uri
    if name == "how_to.md" or name.startswith("api/"):
        page.meta["search"] = {"boost": 2 if name == "how_to.md" else 0.4}


def on_files(files: Any, config: Any) -> Any:
    """Generate a page and a notebook for each chapter, with the figures."""
    for script in chapter_files():
        contents = {
            f"{script.stem}.md": page_of(script),
            f"{script.stem}.ipynb": nbformat.writes(notebook_of(script)),
        }
        for name, content in contents.items():
            files.append(File.generated(config, f"chapters/{name}", content=content))
        for picture in pictures_of(script):
            source = str(picture)
            files.append(File.generated(config, f"chapters/{picture.name}", abs_src_path=source))
    return files
