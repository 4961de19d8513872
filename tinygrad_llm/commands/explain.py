"""``tinygrad-llm explain [OP]``."""

from __future__ import annotations

import pydoc
import shutil
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.op.page import explain
from tinygrad_llm.terminal import fitting, say

_HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
)
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:auto;padding:0 1rem}"
    "pre,details{overflow-x:auto}pre{font-size:13px;line-height:1.4}svg{max-width:100%}"
    "table.formulas td{padding:.2rem 1.2rem .2rem 0;vertical-align:baseline;white-space:nowrap}"
    "table.formulas td:first-child{padding-right:.3em;text-align:right}"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the explanation, through a pager if it is longer than the screen."""
    parser = command_parser(
        "explain", "Formula, derivation, source, numbers and a live gradient check of an op."
    )
    parser.add_argument("op", nargs="?", help="an op's name; without it, all ops are listed")
    sample = "show this sample as the example; the page says which there are"
    parser.add_argument("--sample", type=int, metavar="N", help=sample)
    parser.add_argument("--kernel", action="store_true", help="print the Triton kernel, too")
    parser.add_argument("--html", metavar="FILE", help="write a page in place of printing")
    options = parse(parser, arguments)
    page = explain(options.op, options.sample, options.kernel)
    if options.html:
        _write(options.html, options.op or "All ops", page)
    else:
        _show(str(page))
    return 0


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        say(text)
        return
    lines = fitting(text, sys.stdout).split("\n")
    if len(lines) < shutil.get_terminal_size().lines:
        for line, is_heading in _with_headings(lines):
            say(line, "bold" if is_heading else "")
    else:
        found = _with_headings(lines)
        pydoc.pager("\n".join(_overstruck(line) if bold else line for line, bold in found))


def _with_headings(lines: Sequence[str]) -> list[tuple[str, bool]]:
    """The lines, each with whether it is a heading, which the next one underlines."""
    after = [*lines[1:], ""]
    return [(s, bool(s) and set(t) in ({"-"}, {"="})) for s, t in zip(lines, after, strict=True)]


def _overstruck(text: str) -> str:
    """Bold for every pager, as a typewriter makes it; pydoc takes it out where there is none."""
    return "".join(f"{letter}\b{letter}" for letter in text)


def _write(path: str, title: str, page: object) -> None:
    made = page._repr_html_() if hasattr(page, "_repr_html_") else None
    body = made or f"<pre>{escape(str(page))}</pre>"
    text = f"{_HEAD}<title>{escape(title)}</title><style>{_STYLE}</style>{body}"
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html: {path} cannot be written ({error.strerror}).") from error
