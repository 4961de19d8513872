"""Reading JSON that anybody may have written."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def loads(text: str | bytes) -> Any:
    """The value that a JSON text stands for.

    Raises:
        ValueError: it is no JSON, is nested too deep, or an object has a name twice. (Readers
            differ in which of the two values they take, so nobody knows what was meant.)
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice!r:.80} stands twice in one object")
    return found
