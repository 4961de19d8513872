"""The text of a step: the tokens that went in, what was predicted, and what was right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.autograd.trace import Trace
from tinygrad_llm.autograd.trace.records import OpRecord
from tinygrad_llm.explain.explorer.arrays import Json
from tinygrad_llm.explain.explorer.axes import AxisNames
from tinygrad_llm.explain.explorer.escape import token_text

MOST_TOKENS = 4096  # of a vocabulary that labels an axis
_LOSSES = ("linear_cross_entropy", "cross_entropy")


class Decodes(Protocol):
    """A tokenizer, as far as the page needs one."""

    @property
    def vocab_size(self) -> int: ...

    def decode(self, ids: Iterable[int]) -> str: ...


@dataclass
class StepText:
    """Ids of a step; what a step does not have is None.

    Attributes:
        ids: what went in (B, T).
        targets: what should follow (B, T); outside of 0 .. V - 1 where the loss counts nothing.
        probs: the model's probabilities for what follows (B, T, V).
        op: index of the op with which the prediction is there.
    """

    ids: np.ndarray
    targets: np.ndarray | None = None
    probs: np.ndarray | None = None
    op: int | None = None

    def to_json(self, tokenizer: Decodes | None) -> Json:
        """Texts of all tokens, and the probabilities of the predicted and of the right one."""

        def texts(ids: np.ndarray) -> list[list[str]]:
            return [[_label(int(i), tokenizer) for i in row] for row in ids]

        content: Json = {"tokens": texts(self.ids), "op": self.op}
        size = 0 if tokenizer is None else tokenizer.vocab_size
        if tokenizer and size <= MOST_TOKENS:
            content["vocabulary"] = [_label(i, tokenizer) for i in range(size)]
        if self.targets is not None:
            content["targets"] = [
                [_label(int(i), tokenizer) if self._counts(i) else None for i in row]
                for row in self.targets
            ]
        if self.probs is not None:
            best = self.probs.argmax(axis=-1)
            content["predicted"] = texts(best)
            content["chance"] = _rounded(_chosen(self.probs, best))
            if self.targets is not None:
                right = np.clip(self.targets, 0, self.probs.shape[-1] - 1)  # ignored ones are below
                content["target_chance"] = _rounded(_chosen(self.probs, right))
        return content

    def _counts(self, target: int) -> bool:
        """Whether the loss counts a target; ``ignore_index`` is none of the vocabulary."""
        return self.probs is None or 0 <= target < self.probs.shape[-1]


def _label(i: int, tokenizer: Decodes | None) -> str:
    if tokenizer is None or not 0 <= i < tokenizer.vocab_size:
        return str(i)
    return token_text(tokenizer.decode([i]))


def _chosen(probs: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.take_along_axis(probs, ids[..., None], axis=-1)[..., 0]


def _rounded(x: np.ndarray) -> list[list[float]]:
    return [[float(f"{v:.6g}") for v in row] for row in x]


def find_text(trace: Trace, names: AxisNames) -> StepText | None:
    """The text of a traced step, by the axes' names; None where no batch of ids went in."""
    found = _find_ids(trace, names)
    if found is None:
        return None
    text = StepText(found)
    for op in trace.ops:
        if op.values and op.name in _LOSSES:
            text.op = op.index
            logits = _logits(op)
            targets = _argument(op, "targets")
        elif op.values and op.scope.rpartition(".")[2] in _LOSSES and op.name == "multiply":
            # The loss in small ops: minus the logarithms, times one row of ones and zeros each.
            text.op = op.index
            logits, one_hot = op.values.inputs
            targets = np.where(one_hot.any(axis=-1), abs(one_hot).argmax(axis=-1), -1)
        else:
            continue
        if logits.size // logits.shape[-1] != found.size:
            continue
        text.probs = _softmax(logits).reshape(*found.shape, -1)
        text.targets = None if targets is None else targets.reshape(found.shape)
        break  # a loss that follows is of another text
    return text


def _find_ids(trace: Trace, names: AxisNames) -> np.ndarray | None:
    for k, op in enumerate(trace.ops):
        axes = names.outputs[k][0] if names.outputs[k] else ()
        if not op.values or axes[:2] != ("batch", "position"):
            continue
        if op.name == "embedding":
            return op.values.inputs[0]
        source = trace.ops[op.inputs[0].source] if op.inputs[0].source is not None else None
        if source and source.values and source.scope.endswith("embedding"):
            return source.values.inputs[0].argmax(axis=-1).reshape(op.outputs[0].shape[:2])
    return None


def _argument(op: OpRecord, name: str) -> np.ndarray | None:
    values = op.values.inputs if op.values else []
    return next((x for i, x in zip(op.inputs, values, strict=True) if i.name == name), None)


def _logits(op: OpRecord) -> np.ndarray:
    """The scores that a loss op turns into probabilities, as it computes them."""
    given = {
        i.name: x for i, x in zip(op.inputs, op.values.inputs if op.values else [], strict=True)
    }
    if "logits" in given:
        return given["logits"]
    return given["x"] @ given["weight"].T + given.get("bias", 0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    with no_grad():
        return np.asarray(Tensor(logits).softmax(axis=-1).data)
