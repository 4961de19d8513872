"""Tables of two columns, label and text, from ``.csv`` and ``.tsv`` files.

A header may name the columns; without one the label comes first. What a column separator or a quote
in the wrong place would do to the rows is noticed: a text is read whole, or the file is refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm.errors import ConfigError, DataError

_LABEL_COLUMNS = ("label", "category", "class", "v1")
_TEXT_COLUMNS = ("text", "message", "sms", "v2")


@dataclass(frozen=True)
class Row:
    """A label as it was asked for, a text, and the number of the row's last line."""

    line: int
    label: str
    text: str


@dataclass(frozen=True)
class _Columns:
    """Where label and text stand, and how many columns there are."""

    label: int
    text: int
    count: int


def read_rows(path: Path, content: str, labels: Sequence[str]) -> Iterator[Row]:
    """The rows of a table.

    A text may hold the column separator where it is the last column: what follows belongs to it.

    Args:
        path: its ending tells the format: comma-separated with quotes for ``.csv``; otherwise
            separated by tabs, and quotes are ordinary characters.
        content: of the file; lines end with line feeds, or with carriage returns as in old files.
        labels: that may occur. In the file, case and blanks around them do not matter.

    Raises:
        ConfigError: two labels are the same.
        DataError: an unknown label; a row has too few columns or too many; a quote is not closed,
            or closed where it cannot be; the first line is neither a header nor a row.
    """
    known = _by_spelling(labels)
    is_csv = path.suffix.lower() == ".csv"
    separator = "," if is_csv else "\t"
    columns: _Columns | None = None
    for line, fields in _csv_rows(path, content, known) if is_csv else _tsv_rows(content):
        if not any(fields):
            continue
        if columns is None:
            columns, is_header = _columns(path, fields, known)
            if is_header:
                continue
        label, text = _label_and_text(path, line, fields, columns, separator)
        if _spelling(label) not in known:
            raise DataError(
                f"{path}, line {line}: the label {label!r:.60} is unknown; expected one of "
                f"{list(labels)}."
            )
        yield Row(line, known[_spelling(label)], text)


def _by_spelling(labels: Sequence[str]) -> dict[str, str]:
    """The labels by what `_spelling` makes of them."""
    known = {_spelling(label): label for label in labels}
    if isinstance(labels, str) or len(known) < len(labels) or "" in known:
        raise ConfigError(
            f"labels: expected a list of different words, got {labels!r:.80}. Case and blanks "
            "around them make no difference."
        )
    return known


def _spelling(label: str) -> str:
    return label.strip().casefold()


def _tsv_rows(content: str) -> Iterator[tuple[int, list[str]]]:
    lines = content.replace("\r", "\n").split("\n")  # files may mix them, as parts of others
    return ((number, line.split("\t")) for number, line in enumerate(lines, start=1))


def _csv_rows(path: Path, content: str, known: Mapping[str, str]) -> list[tuple[int, list[str]]]:
    """The number of each row's last line, and its fields, of any length."""
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    limit = csv.field_size_limit(max(len(content), 1 << 17))
    rows: list[tuple[int, list[str]]] = []
    try:
        for fields in reader:
            rows.append((reader.line_num, fields))
            _refuse_swallowed_rows(path, rows, known)
    except csv.Error as error:
        begun = rows[-1][0] + 1 if rows else 1
        raise DataError(
            f"{path}, line {begun}: a quote is not closed, or text follows behind the closing one "
            f'({error}). A text with quotes or commas is written "like ""this"", in quotes".'
        ) from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _refuse_swallowed_rows(
    path: Path, rows: Sequence[tuple[int, list[str]]], known: Mapping[str, str]
) -> None:
    """Refuse a field over several lines most of which look like rows: a quote is missing."""
    last, fields = rows[-1]
    first = rows[-2][0] + 1 if len(rows) > 1 else 1
    if last == first:
        return
    inner = [line for field in fields for line in field.splitlines()[1:]]
    inner = [line for line in inner if line.strip()]
    rows_within = [_looks_like_a_row(line, known) for line in inner]
    if 2 * sum(rows_within) > len(inner):  # the others may have a wrong label
        raise DataError(
            f"{path}, line {first}: a quote opens here and closes in line {last}, and "
            f"{sum(rows_within)} of {len(inner)} lines between look like rows of their own. Close "
            "the quote in its row, or leave it out."
        )


def _looks_like_a_row(line: str, known: Mapping[str, str]) -> bool:
    fields = line.split(",")
    return len(fields) > 1 and any(_spelling(field) in known for field in fields)


def _columns(path: Path, first: Sequence[str], known: Mapping[str, str]) -> tuple[_Columns, bool]:
    """Which columns hold label and text, and whether the first line is a header that says so."""
    names = [name.strip(" \t").lower() for name in first]  # a line break there is a stray quote's
    label = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
    text = next((names.index(name) for name in _TEXT_COLUMNS if name in names), None)
    if label is not None and text is not None and not (label == 0 and _spelling(first[0]) in known):
        for name in (names[label], names[text]):
            if names.count(name) > 1:
                raise DataError(f"{path}: {names.count(name)} columns are named {name!r}.")
        return _Columns(label, text, len(_without_empty_end(names))), True
    if _spelling(first[0]) in known:
        return _Columns(0, 1, 2), False
    raise DataError(
        f"{path}: the first line {list(first)!r:.80} is neither a header with the columns "
        f'"label" and "text", nor a row that begins with one of the labels {list(known.values())}.'
    )


def _label_and_text(
    path: Path, line: int, fields: Sequence[str], columns: _Columns, separator: str
) -> tuple[str, str]:
    if len(fields) <= max(columns.label, columns.text):
        raise DataError(
            f"{path}, line {line}: expected a label and a text, got {fields!r:.80}. "
            "Columns are separated by a tab in .tsv and by a comma in .csv."
        )
    used = _without_empty_end(fields)
    if len(used) <= columns.count:
        return fields[columns.label], fields[columns.text]
    in_one_line = not any("\n" in field or "\r" in field for field in fields)
    if columns.text != columns.count - 1 or not in_one_line:
        raise DataError(
            f"{path}, line {line}: {len(used)} columns, but the header names {columns.count}. If a "
            "text holds the column separator, put it in quotes (.csv), or the text last. Else a "
            "quote is missing."
        )
    return fields[columns.label], separator.join(used[columns.text :])


def _without_empty_end(fields: Sequence[str]) -> Sequence[str]:
    n = len(fields)
    while n and not fields[n - 1].strip():
        n -= 1
    return fields[:n]
