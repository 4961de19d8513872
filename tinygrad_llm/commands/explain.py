"""``tinygrad-llm explain [OP]``."""

from __future__ import annotations

import pydoc
import sys
from collections.abc import Sequence
from pathlib import Path

from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.op.page import explain


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the explanation, through a pager on a terminal; returns the exit status."""
    parser = command_parser(
        "explain", "Formula, derivation, source, numbers and a live gradient check of an op."
    )
    parser.add_argument("op", nargs="?", help="an op's name; without it, all ops are listed")
    parser.add_argument("--html", metavar="FILE", help="write a page in place of printing")
    options = parse(parser, arguments)
    page = explain(options.op)
    if options.html:
        _write(options.html, page)
    elif sys.stdout.isatty():
        pydoc.pager(str(page))
    else:
        print(page)
    return 0


def _write(path: str, page: object) -> None:
    body = page._repr_html_() if hasattr(page, "_repr_html_") else f"<pre>{page}</pre>"
    text = f"<!doctype html><meta charset=utf-8><title>explain</title>{body}"
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html: {path} cannot be written ({error.strerror}).") from error
