"""How `GPT.from_pretrained` finds its way to `tinygrad_llm.pretrained`.

That package builds on this one, so this one does not import it. Instead it enters two functions
here, and is loaded when the first of them is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

_hooks: dict[str, Callable[..., Any]] = {}


def set_pretrained_hooks(load: Callable[..., Any], save: Callable[..., Any]) -> None:
    """Enter ``load(folder_or_name, device=...) -> GPT`` and ``save(model, folder)``."""
    _hooks.update(load=load, save=save)


def call_pretrained(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Call the ``"load"`` or the ``"save"`` function."""
    if kind not in _hooks:
        importlib.import_module("tinygrad_llm.pretrained")
    return _hooks[kind](*args, **kwargs)
