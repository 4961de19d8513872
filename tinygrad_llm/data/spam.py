"""Short messages labelled spam or not: the set of chapter 6 of Raschka's book.

The real set is the SMS Spam Collection (Almeida, Hidalgo, Yamakami 2011): 5,574 messages, 747 of
them spam. A small made-up set ships with the package, so that the example runs offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_llm.backend.download import fetch
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.data.documents import read_text
from tinygrad_llm.data.remote import REMOTE
from tinygrad_llm.data.splits import shuffled, split_sizes
from tinygrad_llm.data.tables import Row, read_rows
from tinygrad_llm.errors import DataError

LABELS = ("ham", "spam")
MADE_UP = Path(__file__).with_name("assets") / "made_up_sms.tsv"


@dataclass(frozen=True)
class Message:
    """A text with its label."""

    label: str
    text: str


def load(
    source: str | Path | None = None,
    cache_dir: str | Path | None = None,
    labels: Sequence[str] = LABELS,
    encoding: str = "utf-8-sig",
    progress: bool = True,
) -> list[Message]:
    """Labelled messages.

    Args:
        source: a ``.tsv`` or ``.csv`` file; ``"sms-spam"`` for the real set, downloaded once; None
            for the made-up set of the package. A file has a header that names the columns
            (label and text), or none and the label first.
        cache_dir: where the download is kept; default `backend.files.cache_folder`.
        labels: the labels that may occur; another set than spam may have others. In the file,
            case and blanks around them do not matter.
        encoding: of the file.
        progress: show a bar while downloading.

    Raises:
        ConfigError: two labels are the same.
        DataError: no such file, undecodable bytes, missing columns, a quote that is not closed, an
            unknown label, an empty message, no message at all, or messages of one label only.
    """
    if source == "sms-spam":
        path = fetch(REMOTE["sms-spam"], cache_folder(cache_dir), progress)
    else:
        path = MADE_UP if source is None else Path(source)
    rows = read_rows(path, read_text(path, encoding), labels)
    messages = [_message(path, row) for row in rows]
    present = {message.label for message in messages}
    if len(present) < 2:
        raise DataError(
            f"{path}: {len(messages)} messages with the labels {sorted(present)}. A classifier "
            f"needs examples of at least two of {list(labels)}."
        )
    return messages


def balanced(messages: Sequence[Message], seed: int = 123) -> list[Message]:
    """As many messages of each label as the rarest has, chosen at random, in the order given."""
    groups = _by_label(messages)
    n = min(map(len, groups.values()))
    kept = [i for group in groups.values() for i in shuffled(group, seed)[:n]]
    return [messages[i] for i in sorted(kept)]


def split(
    messages: Sequence[Message], train: float = 0.7, validation: float = 0.1, seed: int = 123
) -> tuple[list[Message], list[Message], list[Message]]:
    """Training, validation and test messages: shuffled, each label in the same proportion.

    The rest that ``train`` and ``validation`` leave is the test part.

    Raises:
        ConfigError: the fractions are not positive, or leave nothing for the test.
        DataError: a label has too few messages for three parts.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label, group in _by_label(messages).items():
        ends = split_sizes(len(group), train, validation, what=f"messages labelled {label!r}")
        order = shuffled(group, seed)
        for part, (start, stop) in zip(parts, ends, strict=True):
            part.extend(order[start:stop])
    first, second, third = ([messages[i] for i in shuffled(part, seed + 1)] for part in parts)
    return first, second, third


def _by_label(messages: Sequence[Message]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i, message in enumerate(messages):
        groups.setdefault(message.label, []).append(i)
    if not groups:
        raise DataError("spam: the list of messages is empty.")
    return dict(sorted(groups.items()))


def class_ids(messages: Sequence[Message], labels: Sequence[str] = LABELS) -> np.ndarray:
    """The position of each message's label in ``labels``, int64 (n,).

    Raises:
        DataError: a label that is not among them.
    """
    unknown = {message.label for message in messages} - set(labels)
    if unknown:
        raise DataError(f"labels {sorted(unknown)} are unknown; expected {list(labels)}.")
    return np.array([list(labels).index(message.label) for message in messages], np.int64)


def _message(path: Path, row: Row) -> Message:
    text = row.text.strip()
    if not text:
        raise DataError(f"{path}, line {row.line}: the message is empty. Remove the line.")
    return Message(row.label, text)
