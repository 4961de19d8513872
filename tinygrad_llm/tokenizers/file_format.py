"""The file of a tokenizer: JSON that can be read, with a checksum that notices damage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import saved_folder, strict_json
from tinygrad_llm.backend.checksums import own_checksum
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.errors import CheckpointError, TokenizerError

FILE_NAME = "tinygrad_llm_tokenizer.json"
VERSION = 1
GPT2_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")  # what transformers reads


def write(folder: Path, kind: str, content: Mapping[str, object]) -> Path:
    """Write a tokenizer's file into ``folder``, whole or not at all.

    Raises:
        TokenizerError: the folder cannot be written.
    """
    body = {"type": kind, "version": VERSION, **content}
    text = json.dumps({"sha256": own_checksum(body), **body}, ensure_ascii=False, indent=1)
    with saving(folder) as staged:
        write_atomic(staged / FILE_NAME, (text + "\n").encode("utf-8"))
    return folder / FILE_NAME


@contextmanager
def saving(folder: Path) -> Iterator[Path]:
    """`saved_folder.saving` for the files of a tokenizer, with its errors.

    Raises:
        TokenizerError: the folder cannot be written.
    """
    with _as_tokenizer_error(), saved_folder.saving(folder, "tokenizer") as staged:
        yield staged


def verify(folder: Path) -> None:
    """`saved_folder.verify` for the files of a tokenizer, with its errors.

    Raises:
        TokenizerError: one of them is damaged or missing.
    """
    with _as_tokenizer_error():
        saved_folder.verify(folder, (FILE_NAME, *GPT2_FILES))


@contextmanager
def _as_tokenizer_error() -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise TokenizerError(str(error)) from error


def find(folder: Path) -> Path:
    """The tokenizer's file in a folder; a file is taken as it is.

    Raises:
        TokenizerError: there is none.
    """
    path = folder / FILE_NAME if folder.is_dir() else folder
    if not path.is_file():
        raise TokenizerError(
            f"{path}: no tokenizer there. Expected a folder that tokenizer.save(folder) wrote "
            f"(it holds {FILE_NAME})."
        )
    return path


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """The type and content of a tokenizer's file.

    Raises:
        TokenizerError: unreadable, damaged, or of a version this package does not know.
    """
    try:
        body = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"{path}: not a readable tokenizer file ({error}). Save the tokenizer again."
        ) from error
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise TokenizerError(f'{path}: expected a JSON object with a "type". Save it again.')
    if body.get("version") != VERSION:
        raise TokenizerError(
            f"{path}: version {body.get('version')!r}, this package reads version {VERSION}. "
            "Update the package, or save the tokenizer again."
        )
    stored = body.pop("sha256", None)
    if stored is not None and stored != own_checksum(body):
        raise TokenizerError(
            f"{path}: the checksum does not fit the content; the file is damaged or was edited. "
            'Save the tokenizer again, or remove the line "sha256" if the edit was meant.'
        )
    del body["version"]
    return body.pop("type"), body
