"""Through how many frames and files a call of `GPT.loss` goes until it is at a formula.

Run in a process of its own, with the checkout first on the path:

    PYTHONPATH=CHECKOUT python tests/architecture/frames.py
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

os.environ["TINYGRAD_LLM_NUM_THREADS"] = "1"  # a thread has a stack of its own

import numpy as np

import tinygrad_llm as tg

PACKAGE = Path(tg.__file__).parent
# op -> the function that holds its formula
FORMULAS = {
    "attention": "attention_forward",
    "embedding": "embedding_forward",
    "gelu": "gelu_tanh_forward",
    "layer_norm": "layer_norm_forward",
    "add_layer_norm": "add_layer_norm_forward",
    "linear": "linear_forward",
    "cross_entropy": "cross_entropy_rows",
}
NAMES = {function: op for op, function in FORMULAS.items()}


class Watch:
    """Keeps, for each formula, the stack when it was first computed."""

    def __init__(self) -> None:
        self.first: dict[str, list[str]] = {}

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        path = Path(frame.f_code.co_filename)
        op = NAMES.get(frame.f_code.co_name)
        if event != "call" or op is None or path.parent != PACKAGE / "ops":
            return
        self.first.setdefault(op, _stack(frame))


def _stack(frame: FrameType | None) -> list[str]:
    """``file:function`` from `GPT.loss` (or the module's call) down to the frame."""
    stack: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if not path.is_relative_to(PACKAGE):
            break
        stack.append(f"{path.relative_to(PACKAGE).as_posix()}:{frame.f_code.co_name}")
        frame = frame.f_back
    return stack[::-1]


def measure() -> dict[str, dict[str, Any]]:
    """Op -> frames and files from `GPT.loss`, and frames from the last call of a module."""
    config = tg.nn.GPTConfig(vocab_size=13, context_length=8, n_layer=1, n_head=2, n_embd=8)
    model, ids = tg.nn.GPT(config), np.arange(8)[None] % 13
    model.loss(ids, ids).backward()  # whatever happens once only has happened
    watch = Watch()
    sys.setprofile(watch)
    try:
        model.loss(ids, ids)
    finally:
        sys.setprofile(None)
    return {op: _figures(stack) for op, stack in sorted(watch.first.items())}


def _figures(stack: list[str]) -> dict[str, Any]:
    calls = [i for i, place in enumerate(stack) if place == "nn/module.py:__call__"]
    module = stack[calls[-1] :] if calls else stack
    return {
        "frames": len(stack),
        "files": len({place.partition(":")[0] for place in stack}),
        "from module": len(module),
        "route": module,
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
