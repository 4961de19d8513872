"""What a model makes of a given text: perplexity, the next token, a choice between answers.

Nothing is generated here. `Evaluation` of a training run is in evaluate.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import to_numpy
from tinygrad_llm.errors import DataError
from tinygrad_llm.generation.finite_scores import check_scores, first_cause
from tinygrad_llm.generation.next_scores import (
    all_scores,
    context_of,
    is_read_in_halves,
    last_scores,
)
from tinygrad_llm.generation.prompts import as_prompts
from tinygrad_llm.generation.sampling import largest, log_softmax
from tinygrad_llm.nn import GPT, Module
from tinygrad_llm.nn.prepared import Prepared
from tinygrad_llm.tokenizers import Tokenizer

_ROWS = 64  # rows of logits (each V numbers) held at a time


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a text.

    Attributes:
        tokens: number of predicted tokens: all but the first.
        mean_loss: their mean negative log-probability, in nats.
        bits_per_byte: the same per byte of UTF-8, comparable between tokenizers; None if the
            number of bytes was not given.
    """

    tokens: int
    mean_loss: float
    bits_per_byte: float | None = None

    @property
    def value(self) -> float:
        """exp(mean loss): as uncertain as a choice among so many equally likely tokens."""
        return math.exp(self.mean_loss)


def shown_perplexity(value: float) -> str:
    """``"8.59"``; ``"1.94e+97"`` for a model that is far off: e to its loss has no other size."""
    return f"{value:.2f}" if value < 1e6 else f"{value:.2e}"


def token_logprobs(model: Module, ids: TensorLike, stride: int | None = None) -> np.ndarray:
    """The log-probability of each token of a text, given those before it.

    A window of ``context_length`` tokens slides over the text by ``stride``; each token is scored
    in the first window that it is in, so with at least ``context_length - stride`` tokens before
    it (at the text's beginning: all there are).

    Args:
        model: as for `generate`; it is put into evaluation mode meanwhile.
        ids: integers (T,), of any length from 2.
        stride: how far the window moves, by default half the context. Smaller is more exact, and
            slower.

    Returns:
        float64 (T - 1,): of the second token and on.

    Raises:
        DataError: fewer than two tokens, or a stride out of range.
        NumericsError: the model's scores are NaN or infinite; says where that begins.
    """
    text = np.array(as_prompts(ids).rows[0])
    context = context_of(model)
    stride = max(1, context // 2) if stride is None else stride
    if len(text) < 2:
        raise DataError(
            f"token_logprobs: the text has {len(text)} token{'s' * (len(text) != 1)}. Give 2 or "
            "more: each is predicted from those before it."
        )
    if not 1 <= stride <= context:
        raise DataError(f"token_logprobs: stride must be from 1 to {context}, got {stride}.")
    out = np.empty(len(text) - 1)
    scored = 0  # of the targets text[1:]
    with model.evaluating(), Prepared(model), no_grad():
        while scored < len(out):
            end = min(scored + (context if scored == 0 else stride), len(out))
            start = max(0, end - context)
            window, targets = text[start:end], text[scored + 1 : end + 1]
            out[scored:end] = _logprobs_of(model, window, targets, scored - start)
            scored = end
    return out


def _logprobs_of(model: Module, window: np.ndarray, targets: np.ndarray, first: int) -> np.ndarray:
    """Log-probabilities (n,) of the targets (n,) of a window (T,), from position ``first`` on."""
    parts = []
    for i, logits in _some_scores(model, window, first):
        check_scores("token_logprobs", logits, partial(first_cause, model, window))
        wanted = targets[i : i + len(logits), None]
        parts.append(np.take_along_axis(log_softmax(logits), wanted, axis=-1)[:, 0])
    return np.concatenate(parts)


def _some_scores(model: Module, window: np.ndarray, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """The scores (rows, V) from a position on, some rows at a time, each with its first row."""
    if isinstance(model, GPT) and is_read_in_halves(model):
        hidden = model.hidden(window[None])[0, first:]  # (n, C)
        for i in range(0, len(hidden), _ROWS):
            yield i, to_numpy(model.logits(hidden[i : i + _ROWS]).data)
    else:
        yield 0, to_numpy(all_scores(model, window[None])[0, first:].data)


def perplexity(
    model: Module, ids: TensorLike, stride: int | None = None, n_bytes: int | None = None
) -> Perplexity:
    """Perplexity of a text of any length; arguments as for `token_logprobs`.

    Args:
        n_bytes: length of the whole text in bytes, for ``bits_per_byte``. The first token is not
            scored; it counts like the mean of the others.
    """
    losses = -token_logprobs(model, ids, stride)
    mean = float(losses.mean())
    bits = None if n_bytes is None else mean / math.log(2) * (len(losses) + 1) / n_bytes
    return Perplexity(len(losses), mean, bits)


@dataclass(frozen=True)
class Candidate:
    """A token that may come next, and its probability."""

    id: int
    text: str
    probability: float


def top_candidates(logits: np.ndarray, tokenizer: Tokenizer, k: int = 10) -> list[Candidate]:
    """The k most probable tokens by scores (V,), from the most probable down."""
    logprobs = log_softmax(logits)
    return [
        Candidate(int(i), tokenizer.decode([int(i)]), float(np.exp(logprobs[i])))
        for i in largest(logprobs, k)
    ]


def next_tokens(model: Module, tokenizer: Tokenizer, prompt: str, k: int = 10) -> list[Candidate]:
    """The k most probable tokens after a prompt; of a long one only the end counts."""
    ids = tokenizer.encode(prompt, allowed_special="all")[-context_of(model) :]
    with model.evaluating(), Prepared(model), no_grad():
        logits = to_numpy(last_scores(model, [ids]).data)[0, : tokenizer.vocab_size]  # (V,)
        check_scores("next_tokens", logits, lambda: first_cause(model, ids))
    return top_candidates(logits, tokenizer, k)


def few_shot_prompt(
    examples: Sequence[tuple[str, str]],
    question: str,
    instruction: str = "",
    form: str = "Q: {question}\nA:{answer}\n\n",
) -> str:
    """A prompt that shows solved examples and then the question, for a model without fine-tuning.

    Source: Brown et al., "Language models are few-shot learners", 2020.
    """
    shown = "".join(form.format(question=q, answer=f" {a}") for q, a in examples)
    asked = form.format(question=question, answer="").rstrip()
    return (f"{instruction}\n\n" if instruction else "") + shown + asked


def choose_answer(
    model: Module, tokenizer: Tokenizer, prompt: str, answers: Sequence[str]
) -> list[tuple[str, float]]:
    """The given answers from the most to the least probable after a prompt.

    Returns:
        pairs of an answer and the mean log-probability of its tokens.
    """
    start = tokenizer.encode(prompt, allowed_special="all")
    found = []
    for answer in answers:
        ids = tokenizer.encode(prompt + answer, allowed_special="all")
        n_answer = max(1, len(ids) - _common(start, ids))
        found.append((answer, float(token_logprobs(model, ids)[-n_answer:].mean())))
    return sorted(found, key=lambda pair: -pair[1])


def _common(a: list[int], b: list[int]) -> int:
    """Length of the common beginning: the answer may change how the prompt's end is cut."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))


@dataclass(frozen=True)
class ModelComparison:
    """Two models on the same text.

    Attributes:
        first, second: the perplexity of each.
        better: share of the tokens to which the second gave more probability.
        differences: (T - 1,), the second's log-probabilities minus the first's.
    """

    first: Perplexity
    second: Perplexity
    better: float
    differences: np.ndarray


def compare(
    first: Module, second: Module, ids: TensorLike, stride: int | None = None
) -> ModelComparison:
    """How two checkpoints of one tokenizer predict the same text, token by token."""
    a, b = token_logprobs(first, ids, stride), token_logprobs(second, ids, stride)
    return ModelComparison(
        Perplexity(len(a), float(-a.mean())),
        Perplexity(len(b), float(-b.mean())),
        float((b > a).mean()),
        b - a,
    )
