"""Changes to a JSON file as an editor, a damaged disk or somebody hostile makes them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

Path = tuple["str | int", ...]
_ENDLESS = 100_000
# Written in place of a value, as JSON's text; some of them are none that Python would write.
ODD_VALUES = (
    *("null", "true", "false", "-1", "0", "1", "2", "1.5", "1e9", "1000000000", "1e400"),
    *("NaN", "Infinity", "-Infinity", str(2**31), str(2**63), str(10**30), "9" * 5000),
    *('""', '"7"', '"../../x"', '"\\ud800"', '"\\u001b[2J\\u0000"', f'"{"x" * (1 << 20)}"'),
    *("[]", "{}", "[1]", "[null]", "[[]]", '{"a": 1}', f"[{'1,' * 300_000}1]"),
    "[" * _ENDLESS + "]" * _ENDLESS,
    '{"a":' * _ENDLESS + "1" + "}" * _ENDLESS,
)
ODD_NAMES = ('"\\ud800"', '"\\u001b[2J"', f'"{"k" * (1 << 20)}"', '""', '"another"')


def places(value: Any, here: Path = ()) -> Iterator[Path]:
    """The path of every value in a JSON value."""
    yield here
    pairs = value.items() if isinstance(value, dict) else []
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, inner in pairs:
        yield from places(inner, (*here, key))


def changed(value: Any, at: Path, how: str, text: str, here: Path = ()) -> str:
    """The JSON text of a value, changed at one place.

    Args:
        value: what the file holds.
        at: the place.
        how: "value", "name", "gone" or "twice".
        text: the new value or name.
        here: where in the whole the value stands.
    """
    if here == at and how == "value":
        return text
    if isinstance(value, list):
        inner = [(i, v) for i, v in enumerate(value) if how != "gone" or (*here, i) != at]
        return f"[{', '.join(changed(v, at, how, text, (*here, i)) for i, v in inner)}]"
    if not isinstance(value, dict):
        return json.dumps(value)
    parts = []
    for key, v in value.items():
        name, content = json.dumps(key), changed(v, at, how, text, (*here, key))
        if (*here, key) == at:
            name = text if how == "name" else name
            parts += [f"{name}: {text}"] if how == "twice" else []
            content = "" if how == "gone" else content
        parts += [f"{name}: {content}"] if content else []
    return f"{{{', '.join(parts)}}}"


def random_change(text: str, rng: random.Random) -> str:
    """A JSON text with one change; tables at the top are as likely as those in large lists."""
    value = json.loads(text)
    listed = list(places(value))
    shallow = [place for place in listed if len(place) < 2]
    at = rng.choice(rng.choice([listed, shallow]))
    how = rng.choice(["value", "value", "value", "name", "gone", "twice"]) if at else "value"
    return changed(value, at, how, rng.choice(ODD_NAMES if how == "name" else ODD_VALUES))
