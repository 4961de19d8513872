"""Validation: the loss on text that is never trained on, always the same windows of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.data.sliding_window import TokenDataset, TokenSource
from tinygrad_llm.distributed import Communicator
from tinygrad_llm.nn import Module
from tinygrad_llm.nn.losses import loss_of
from tinygrad_llm.nn.prepared import Prepared


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts some text.

    Attributes:
        loss: mean cross-entropy in nats per token.
        tokens: how many tokens were predicted.
        bits_per_byte: the same loss per byte of UTF-8 text, so that models with different
            tokenizers compare; NaN where the tokenizer is not known. The bits spent on
            ``<|endoftext|>`` count, its bytes do not exist.
    """

    loss: float
    tokens: int
    bits_per_byte: float = math.nan

    @property
    def perplexity(self) -> float:
        """exp(loss): as uncertain as a choice among so many equally likely tokens."""
        return math.exp(min(self.loss, 700.0))

    def to_dict(self) -> dict[str, float]:
        """The figures by name, for the log."""
        values = {"loss": self.loss, "perplexity": self.perplexity}
        return (
            values
            if math.isnan(self.bits_per_byte)
            else {**values, "bits_per_byte": self.bits_per_byte}
        )


class ByteTokenizer(Protocol):
    """What is needed of a tokenizer here."""

    special_tokens: dict[str, int]

    @property
    def vocab_size(self) -> int: ...

    def token_bytes(self, token_id: int, first: bool = False) -> bytes: ...


def bytes_per_token(tokenizer: ByteTokenizer) -> np.ndarray:
    """The number of UTF-8 bytes of each token (V,); 0 for special tokens."""
    special = set(tokenizer.special_tokens.values())
    lengths = [
        0 if i in special else len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)
    ]
    return np.array(lengths, np.int64)


class Evaluator:
    """Measures a model on fixed windows of a text.

    Args:
        ids: the validation tokens (N,).
        context_length: T, tokens in a window.
        batch_size: windows computed at once.
        max_tokens: look at no more tokens than this, evenly spread over the text; 0 for all.
        token_bytes: bytes of each token (V,), see `bytes_per_token`; None leaves bits per byte
            out.

    Raises:
        DataError: the text is shorter than a window.
    """

    def __init__(
        self,
        ids: TokenSource,
        context_length: int,
        batch_size: int,
        max_tokens: int = 0,
        token_bytes: np.ndarray | None = None,
    ) -> None:
        self.dataset = TokenDataset(ids, context_length)
        self.batch_size = batch_size
        self.token_bytes = token_bytes
        n = len(self.dataset)
        wanted = min(n, max(1, max_tokens // context_length)) if max_tokens else n
        self.windows = np.unique(np.linspace(0, n - 1, wanted).round().astype(np.int64))

    def __call__(self, model: Module) -> Evaluation:
        """Loss, perplexity and bits per byte; the model is in evaluation mode meanwhile."""
        with model.evaluating(), Prepared(model), no_grad():
            figures = self.measure(model)
        nats, tokens, n_bytes = (sum(column) for column in zip(*figures, strict=True))
        bits = nats / math.log(2) / n_bytes if n_bytes else math.nan
        return Evaluation(nats / tokens, int(tokens), bits)

    def measure(self, model: Module) -> list[tuple[float, int, int]]:
        """Nats, tokens and bytes of each batch; overridden where ranks share the batches out."""
        return [self.measure_batch(model, *batch) for batch in self.batches()]

    def measure_batch(
        self, model: Module, inputs: np.ndarray, targets: np.ndarray
    ) -> tuple[float, int, int]:
        """Nats, tokens and bytes of one batch."""
        nats = float(loss_of(model, inputs, targets).item()) * targets.size
        n_bytes = 0 if self.token_bytes is None else int(self.token_bytes[targets].sum())
        return nats, targets.size, n_bytes

    def batches(self) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """The windows, (inputs, targets) of shape (B, T) each."""
        for first in range(0, len(self.windows), self.batch_size):
            chosen = self.windows[first : first + self.batch_size].tolist()
            pairs = [self.dataset[i] for i in chosen]
            yield np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])


class SharedEvaluator(Evaluator):
    """An `Evaluator` whose batches are shared out; all ranks get one process's result, bit by bit.

    Args:
        whole: the evaluator of one process, the same on all ranks.
        world: the ranks.
    """

    def __init__(self, whole: Evaluator, world: Communicator) -> None:
        self.dataset, self.windows = whole.dataset, whole.windows
        self.batch_size, self.token_bytes = whole.batch_size, whole.token_bytes
        self.world = world

    def measure(self, model: Module) -> list[tuple[float, int, int]]:
        """Nats, tokens and bytes of each batch, each measured on one rank."""
        batches = list(self.batches())
        table = np.zeros((len(batches), 3))  # each line is not 0 on one rank only: exact sums
        for i in range(self.world.rank, len(batches), self.world.size):
            table[i] = self.measure_batch(model, *batches[i])
        self.world.all_reduce(table).wait()
        return [(nats, int(tokens), int(n_bytes)) for nats, tokens, n_bytes in table.tolist()]


Evaluate = Callable[[Any], Evaluation | Mapping[str, float]]  # called with the model


def as_metrics(result: Evaluation | Mapping[str, float]) -> dict[str, float]:
    """An evaluation, or a table with at least ``loss``, as a plain table of numbers."""
    if isinstance(result, Evaluation):
        return result.to_dict()
    return {name: float(value) for name, value in result.items()}
