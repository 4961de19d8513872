"""Weights that stay as they are for a while, so that products prepare each of them only once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinygrad_llm.autograd.versions import clock, was_overwritten
from tinygrad_llm.backend.bf16_products import Fixed

if TYPE_CHECKING:
    from tinygrad_llm.nn.module import Module


class Prepared:
    """``with Prepared(model):`` what products make of its weights on the CPU is kept.

    That is their rounded form, where products read bfloat16 (`tg.set_float32_matmul_precision`):
    a token then costs half the bytes of float32's. It may be entered again, for each token. If
    weights were written in between, by an optimizer, ``load_state_dict`` or an op in place, it
    begins anew; writing into ``weight.data`` with plain NumPy is not seen.
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._begin()

    def _begin(self) -> None:
        self._weights = [p.data for p in self._model.parameters() if p.device == "cpu"]
        self._fixed, self._since = Fixed(*self._weights), clock.last_write

    def _changed(self) -> bool:
        if clock.last_write == self._since:
            return False
        return any(was_overwritten(weight, self._since) for weight in self._weights)

    def __enter__(self) -> None:
        if self._changed():
            self._begin()
        self._since = clock.last_write
        self._fixed.__enter__()

    def __exit__(self, *error: object) -> None:
        self._fixed.__exit__(*error)
