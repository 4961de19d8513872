"""Text from outside (names, tokens, titles) on a page: it is shown, and does nothing else."""

from __future__ import annotations

import html
import json
import unicodedata

_SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥", "": "∅"}


def script_json(data: object) -> str:
    """JSON that can stand in a ``<script>`` element whatever its texts are.

    Within a script HTML looks for ``</script`` and, after ``<!--``, for ``<script`` as well, so no
    ``<`` is left; nor are ``>`` and ``&``, which would matter in XHTML. Other letters than ASCII
    are escaped by JSON itself.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def heading(text: str) -> str:
    """A title as HTML, with `visible` control characters."""
    return html.escape(visible(text))


def visible(text: str) -> str:
    """The text with control and format characters written out.

    A right-to-left override, for instance, would turn around what stands behind it.
    """
    return "".join(f"\\u{ord(c):04x}" if _moves(c) else c for c in text)


def _moves(c: str) -> bool:
    """Whether a character does something instead of being seen."""
    kind = unicodedata.category(c)
    return kind[0] == "C" or kind in ("Zl", "Zp")


def token_text(text: str) -> str:
    """A token for a label: blanks and line ends as signs, an empty one as ∅."""
    if text in _SIGNS:
        return _SIGNS[text]
    return visible("".join(_SIGNS.get(c, c) for c in text))
