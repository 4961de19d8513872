"""Lists of files with their checksums, in a JSON file that also carries its own.

    {"sha256": ..., "format": ..., "version": 1, "files": {"config.json": {"bytes": 612, ...}}}

``checksums.json`` stands in every folder that `saved_folder.saving` wrote. A training checkpoint
has such a list in ``training_state.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import strict_json
from tinygrad_llm.errors import CheckpointError

CHECKSUMS_NAME, STATE_NAME = "checksums.json", "training_state.json"
# File -> what it calls itself. The later one counts where both list a file.
FORMATS = {STATE_NAME: "tinygrad_llm training state", CHECKSUMS_NAME: "tinygrad_llm checksums"}
VERSION = 1
_CHUNK = 1 << 20

Files = dict[str, dict[str, Any]]  # name -> {"bytes": 612, "sha256": "9f86..."}
AGAIN = "Save or copy the folder again."


def advice(folder: Path) -> str:
    """What to do about a file that differs from its checksum."""
    listed = (folder / CHECKSUMS_NAME).exists()
    delete = f"delete {CHECKSUMS_NAME} there, or " if listed else ""
    return (
        f"{AGAIN} If the change was meant, {delete}set TINYGRAD_LLM_VERIFY=off, to read it as it "
        "is."
    )


def is_verifying() -> bool:
    """Whether checksums are to be compared; the environment can say no, to save the time."""
    return os.environ.get("TINYGRAD_LLM_VERIFY") != "off"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; reads it in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def checksums_of(paths: Iterable[Path]) -> Files:
    """Size and SHA-256 of each file."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(paths)
    }


def sealed(body: Mapping[str, object]) -> bytes:
    """A table of JSON's types as a text that begins with the table's own checksum."""
    text = json.dumps({"sha256": own_checksum(body), **body}, indent=1)
    return (text + "\n").encode("utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """The table that `sealed` made into a file of one of `FORMATS`; its ``files`` are well formed.

    Raises:
        CheckpointError: it is missing, damaged, of another program or of another version.
    """
    body = _parse(path)
    if body.get("format") != FORMATS[path.name]:
        raise CheckpointError(
            f"{path}: is damaged, or of another program: expected format {FORMATS[path.name]!r}. "
            f"{advice(path.parent)}"
        )
    if body.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: has version {body.get('version')!r}, this package reads version {VERSION}. "
            "Use the version of the package that wrote it."
        )
    stored = body.pop("sha256", None)
    if stored != own_checksum(body):
        raise CheckpointError(
            f"{path}: is damaged: its checksum (sha256) is another one. {advice(path.parent)}"
        )
    if not _well_formed(body.get("files")):
        raise CheckpointError(
            f"{path}: is damaged: expected files with bytes and sha256. {advice(path.parent)}"
        )
    return body


def _parse(path: Path) -> dict[str, Any]:
    otherwise = advice(path.parent)
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise CheckpointError(f"{path}: is no file. {otherwise}")
        body = strict_json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing. {otherwise}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged: no JSON ({error}). {otherwise}") from error
    if not isinstance(body, dict):
        raise CheckpointError(f"{path}: is damaged: expected a JSON object. {otherwise}")
    return body


def _well_formed(files: object) -> bool:
    return isinstance(files, dict) and all(
        is_plain_name(name) and isinstance(entry, dict) and {"bytes", "sha256"} <= entry.keys()
        for name, entry in files.items()
    )


def is_plain_name(name: object) -> bool:
    """Whether this names a file directly in its folder, and nothing outside."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def own_checksum(body: Mapping[str, object]) -> str:
    """The SHA-256 of a table of JSON's types, however it is spaced and ordered in its file."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def compare(folder: Path, files: Files, otherwise: str | None = None) -> None:
    """Compare files with what is written down about them.

    Args:
        folder: where they are.
        files: what is written down.
        otherwise: what to do about one that differs; by default `advice`.

    Raises:
        CheckpointError: one is missing or another one.
    """
    otherwise = otherwise or advice(folder)
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: is missing; the folder is not complete. {otherwise}")
        try:
            size = path.stat().st_size
            found = sha256_of(path) if size == expected["bytes"] else None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
        if found is None:
            raise CheckpointError(
                f"{path}: is damaged, or was changed after it was saved: it has {size} bytes, "
                f"{expected['bytes']} were written. {otherwise}"
            )
        if found != expected["sha256"]:
            raise CheckpointError(
                f"{path}: is damaged, or was changed after it was saved: its checksum (sha256) is "
                f"another one. {otherwise}"
            )


def recorded(folder: Path) -> Files:
    """What the lists in a folder say; nothing where there is none.

    Raises:
        CheckpointError: a list is damaged.
    """
    files: Files = {}
    for name in FORMATS:
        if (folder / name).exists():
            files.update(read_sealed(folder / name)["files"])
    return files
