"""Texts to train on: two that every Python carries, two to download, and any files of yours.

What `load` takes:

    pydoc              the Python language reference, as prose; needs no network (the default)
    stdlib             the source code of the standard library; needs no network
    tiny-shakespeare   1.1 MB of Shakespeare's plays
    the-verdict        a short story of Edith Wharton's, the text of Raschka's book
    PATH...            UTF-8 files and folders
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tinygrad_llm.backend.download import fetch
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.data.documents import Document, is_text, read_paths, read_text, text_files
from tinygrad_llm.data.remote import REMOTE
from tinygrad_llm.errors import DataError

DOWNLOADS = ("tiny-shakespeare", "the-verdict")
NAMES = ("pydoc", "stdlib", *DOWNLOADS)


def load(
    source: str | Path | Sequence[str | Path] = "pydoc",
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> list[Document]:
    """The documents of a named corpus, or of files and folders.

    Args:
        source: one of `NAMES`, or one or more paths. A file or folder of that name wins over a
            corpus of that name only when written as a path, such as ``./pydoc``.
        cache_dir: where downloads are kept and looked for; default `backend.files.cache_folder`.
        progress: show a bar while downloading.

    Raises:
        DataError: no such name or path, text that is not UTF-8 or empty, or no network (the
            message says which file to put where).
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    documents: list[Document] = []
    for one in sources:
        if one == "pydoc":
            documents.extend(_pydoc())
        elif one == "stdlib":
            documents.extend(_stdlib())
        elif isinstance(one, str) and one in DOWNLOADS:
            path = fetch(REMOTE[one], cache_folder(cache_dir), progress)
            documents.append(Document(one, read_text(path)))
        else:
            _check_path(Path(one))
            documents.extend(read_paths([one]))
    if not documents:
        raise DataError("corpora.load: no source was given. Name one of: " + ", ".join(NAMES))
    return documents


def _check_path(path: Path) -> None:
    if not path.exists():
        raise DataError(
            f"{path}: neither a file, a folder nor a known corpus. Known: {', '.join(NAMES)}."
        )


def _pydoc() -> list[Document]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            "pydoc: this Python comes without the module pydoc_data (some distributions put it "
            "into a package of its own). Use --data stdlib, or --data FILE with any UTF-8 text."
        ) from error
    seen: set[str] = set()
    pages = [(name, without_repeats(as_prose(topics[name]), seen)) for name in sorted(topics)]
    return [Document(f"pydoc/{name}", text) for name, text in pages if text]


def without_repeats(page: str, seen: set[str]) -> str:
    """The page without the longer paragraphs that are in ``seen``; its own are added to it.

    Pages of the reference repeat whole sections of others. Left in, they would stand in the
    training and in the validation part, and a model that knows them by heart would look good.
    """
    kept = [line for line in page.split("\n") if len(line) < 60 or line not in seen]
    seen.update(kept)
    return "\n".join(kept)


def as_prose(page: str) -> str:
    """The sentences of a page of the language reference, one paragraph per line.

    Wrapped lines are joined. Underlines of headings, tables, grammar and code are left out.
    """
    kept = []
    for block in re.split(r"\n\s*\n", page):
        lines = [line.strip() for line in block.splitlines()]
        paragraph = " ".join(line for line in lines if line and not _is_rule(line))
        paragraph = re.sub(r"(?<=\w)- (?=[a-z])", "-", paragraph)  # "built-\nin" -> "built-in"
        if _is_prose(paragraph):
            kept.append(re.sub(r" {2,}", " ", paragraph))
    return "\n".join(kept)


def _is_rule(line: str) -> bool:
    return len(line) > 2 and len(set(line)) == 1 and not line[0].isalnum()


def _is_prose(paragraph: str) -> bool:
    """Mostly letters, begins like a sentence, and ends like one unless it is a short heading."""
    if not paragraph or any(mark in paragraph for mark in ("::=", ">>>", "+--", "|=")):
        return False
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    begins = paragraph[0].isupper() or paragraph[0].isdigit() or paragraph[0] in "\"*(“‘'"
    ends = paragraph[-1] in '.:;?!)"”’,' or len(paragraph) < 60
    return begins and ends and letters >= 0.8 * len(paragraph)


def _stdlib() -> list[Document]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    if not folder.is_dir():
        raise DataError(f"stdlib: {folder} is not a folder; this Python comes without sources.")
    documents = []
    for path in text_files(folder):
        relative = path.relative_to(folder)
        installed = {"site-packages", "dist-packages"} & set(relative.parts)
        if path.suffix != ".py" or installed or not is_text(path):
            continue
        try:
            text = read_text(path)
        except DataError:
            continue  # the test suite has files in other encodings on purpose
        if text.strip():
            documents.append(Document(f"stdlib/{relative.as_posix()}", text))
    return documents
