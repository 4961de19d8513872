"""The backprop explorer: a traced training step as one HTML page that needs nothing else.

    with tg.trace(values=True) as t:
        loss = model.loss(ids, targets)
        loss.backward()
    tg.explore(t, "step.html", model=model, tokenizer=tokenizer)

The page holds the graph folded by module, the arrays, the gradients that met at each node, and the
order of events. The template, the style and the scripts stand in ``assets``.
"""

from __future__ import annotations

import os
from pathlib import Path

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.trace import Trace, trace_of
from tinygrad_llm.errors import DataError, GraphError
from tinygrad_llm.explain.explorer.arrays import Json
from tinygrad_llm.explain.explorer.data import page_data
from tinygrad_llm.explain.explorer.escape import heading, script_json
from tinygrad_llm.explain.explorer.text import Decodes
from tinygrad_llm.nn import Module

_ASSETS = Path(__file__).with_name("assets")
# In the order in which the page runs them.
_SCRIPTS = (
    "arrays",
    "graph",
    "lanes",
    "steps",
    "labels",
    "heat_map",
    "numbers",
    "attention",
    "tree",
    "detail",
    "other_details",
    "text",
    "drawing",
    "play",
    "keys",
    "main",
)
_STYLES = ("page", "pictures", "phone")  # the last rule wins
MAX_BYTES = 8 << 20

_HOW = (
    "Record the step with\n"
    "    with tg.trace(values=True) as t:\n"
    "        loss = model.loss(ids, targets)\n"
    "        loss.backward()\n"
    "    tg.explore(t, path)"
)


def explore(
    source: Trace | Tensor,
    path: str | os.PathLike[str],
    model: Module | None = None,
    title: str = "Backpropagation, step by step",
    max_bytes: int = MAX_BYTES,
    tokenizer: Decodes | None = None,
) -> Path:
    """Write a traced step as a self-contained HTML page.

    Args:
        source: a trace with values, or a loss that was computed under one. The backward pass of
            such a loss is run (and recorded) here if it has not been run yet.
        path: file to write.
        model: a Module whose names the parameters shall have; otherwise they are called after
            the module and the argument that used them first.
        title: heading of the page.
        max_bytes: aim for a page no larger than this: of large arrays only a corner is kept.
        tokenizer: what the ids were made with; without one, tokens are shown as their ids.

    Returns:
        the path.

    Raises:
        GraphError: nothing was recorded, or the trace does not hold values.
        DataError: the file cannot be written.
    """
    recorded = source if isinstance(source, Trace) else _trace_of_loss(source)
    if not recorded.keeps_values:
        raise GraphError(f"explore: the trace holds no values. {_HOW}")
    if not recorded.ops:
        raise GraphError(f"explore: no op ran inside the trace. {_HOW}")
    if model is not None:
        recorded.name_leaves(model)
    page = render(page_data(recorded, title, max_bytes, tokenizer))
    return _write(Path(path), page)


def _write(path: Path, page: str) -> Path:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}). Name a file in a folder that is there "
            "and in which you may write."
        ) from error
    return path


def _trace_of_loss(loss: Tensor) -> Trace:
    """The trace under which ``loss`` was computed, its backward pass included."""
    recorded = trace_of(loss)
    if recorded is None:
        raise GraphError(
            "explore: this tensor was not computed under a trace, so nothing is known about the "
            f"ops that made it. {_HOW}"
        )
    walked = any(kind == "backward" for kind, _ in recorded.events)
    if recorded.keeps_values and not walked and loss.requires_grad:
        with recorded:
            loss.backward()
    return recorded


def render(data: Json) -> str:
    """The page around the data: template, style and scripts put together."""
    scripts = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    parts = {
        "TITLE": heading(str(data["title"])),
        "STYLE": "\n".join(_asset(f"{name}.css") for name in _STYLES),
        "SCRIPT": scripts,
        "DATA": script_json(data),
    }
    page = _asset("page.html")
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    return page


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
