"""What chapters and solutions print and draw, kept for the pages of the site.

Running them all takes some minutes, so the outputs of each stand in `examples/chapters/outputs/`,
together with a checksum of the code that made them:

    python examples/chapters/make_notebooks.py --record ch03

Outputs of other code are not used: the site then runs the script itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE / "outputs"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # colours


def checksum(script: Path) -> str:
    """Of the code: text cells and comments on lines of their own do not count."""
    lines = script.read_text(encoding="utf-8").splitlines()
    code = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def kept_at(script: Path) -> Path:
    """The file that keeps a script's outputs, its pictures beside it."""
    extra = "_solutions" if script.parent.name == "solutions" else ""
    return FOLDER / f"{script.stem}{extra}.json"


def record(script: Path, notebook: Any) -> None:
    """Keep the outputs of an executed notebook; pictures go into files of their own."""
    target = kept_at(script)
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f"{target.stem}-*.png"):
        old.unlink()
    cells, pictures = [], 0
    for cell in notebook.cells:
        outputs: list[dict[str, Any]] = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stdout":
                outputs.append({"text": ESCAPES.sub("", output.text).rstrip("\n").split("\n")})
            elif png := output.get("data", {}).get("image/png"):
                pictures += 1
                name = f"{target.stem}-{pictures}.png"
                (target.parent / name).write_bytes(base64.b64decode(png))
                outputs.append({"picture": name, "alt": output.metadata["image/png"]["alt"]})
        cells.append(outputs)
    while cells and not cells[-1]:
        cells.pop()
    text = json.dumps({"code": checksum(script), "cells": cells}, indent=1, ensure_ascii=False)
    target.write_text(text + "\n", encoding="utf-8")


def recorded(script: Path) -> list[list[dict[str, Any]]] | None:
    """For each cell its outputs, None if none of this code are kept.

    An output is ``{"text": [line, ...]}`` or ``{"picture": "NAME.png", "alt": "..."}``.
    """
    try:
        kept = json.loads(kept_at(script).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return kept["cells"] if kept["code"] == checksum(script) else None
