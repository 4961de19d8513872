"""Preference tuning: of two answers to one prompt, make the better one more likely.

Direct preference optimization needs no reward model. The policy pi itself defines a reward, by how
much more likely it makes an answer than a frozen reference pi_ref does:

    r(x, y) = beta (log pi(y | x) - log pi_ref(y | x))                     the implicit reward
    L       = -log sigmoid(r(x, y_chosen) - r(x, y_rejected))

This is cross-entropy over two classes with the rewards as logits and "chosen" as the target, and
that is how it is computed: -log softmax([a, b])[0] = -log sigmoid(a - b), and its gradient
sigmoid(b - a) is large only where the model still ranks the pair the wrong way round.

Source: Rafailov et al., "Direct preference optimization: your language model is secretly a reward
model", 2023, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.backend import Array, array_module, to_numpy
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import Template
from tinygrad_llm.distributed import Communicator
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.finetuning.collate import IGNORE, buckets, pad, room_for
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.instruction import shift
from tinygrad_llm.finetuning.loop import FitSettings, fit
from tinygrad_llm.finetuning.progress import counted
from tinygrad_llm.nn import GPT
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.loop_settings import Batch
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.run.folder import PrintLine, RunFolder

_EVAL_BATCH = 32
Answers = tuple[Array, Array, Array]  # row, column (N,) where a token is predicted; the tokens (N,)


@dataclass(frozen=True)
class Preference:
    """A prompt with the answer that is wanted and one that is not."""

    instruction: str
    chosen: str
    rejected: str
    input: str = ""


@dataclass(frozen=True)
class PreferenceSet:
    """Pairs as tokens: pair i is rows 2 i (chosen) and 2 i + 1 (rejected).

    Attributes:
        inputs, targets: as `instruction.InstructionSet`, two rows for each pair.
        reference: log pi_ref(y | x) of each row (2 N,); see `with_reference`.
    """

    inputs: list[list[int]]
    targets: list[list[int]]
    reference: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.inputs) // 2

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer answer of each pair, with its prompt."""
        pairs = zip(self.inputs[::2], self.inputs[1::2], strict=True)
        return [max(len(chosen), len(rejected)) for chosen, rejected in pairs]

    @cached_property
    def longest(self) -> tuple[int, int]:
        """Tokens of the longest row, and of the longest answer."""
        answers = (sum(t != IGNORE for t in row) for row in self.targets)
        return max(self.lengths), max(answers)


def encode_preferences(
    pairs: Sequence[Preference], template: Template, tokenizer: Tokenizer, max_length: int
) -> PreferenceSet:
    """Pairs as tokens.

    Raises:
        DataError: no pairs, an empty answer, equal answers, or a pair that is too long.
    """
    if not pairs:
        raise DataError("preferences: expected at least one pair, got none.")
    inputs, targets = [], []
    for number, pair in enumerate(pairs):
        if not pair.chosen.strip() or not pair.rejected.strip() or pair.chosen == pair.rejected:
            raise DataError(
                f"preferences: pair {number} needs two different answers, got "
                f"{pair.chosen!r:.60} and {pair.rejected!r:.60}."
            )
        for answer in (pair.chosen, pair.rejected):
            turns = Instruction(pair.instruction, pair.input, answer).turns()
            row, wanted = shift(*template.encode(turns, tokenizer))
            if len(row) > max_length:
                raise DataError(
                    f"preferences: pair {number} has {len(row)} tokens, more than {max_length}."
                )
            inputs.append(row)
            targets.append(wanted)
    return PreferenceSet(inputs, targets)


def answer_log_probabilities(model: GPT, inputs: Array, answers: Answers) -> Tensor:
    """log p(answer | prompt) = sum over its tokens, for right-padded inputs (B, T) -> (B,).

    Only the positions that predict the answer go through the output layer.
    """
    hidden = model.hidden(inputs)  # (B, T, C)
    xp = array_module(hidden.data)
    row, column, tokens = answers
    row, column = xp.asarray(row), xp.asarray(column)
    logits = model.logits(hidden[row, column])  # (N, V)
    losses = F.cross_entropy(logits, tokens, IGNORE, reduction="none")  # (N,)
    owner = xp.arange(len(inputs))[:, None] == row  # (B, N): which tokens belong to which row
    return -(Tensor(xp.asarray(owner, losses.dtype)) @ losses)


def dpo_loss(log_p: Tensor, reference: Array, beta: float) -> tuple[Tensor, Tensor]:
    """The loss and the implicit rewards.

    Args:
        log_p: log pi(y | x), chosen and rejected in turn (2 N,).
        reference: the same of the frozen reference (2 N,).
        beta: how strongly the policy is held to the reference; 0.1 to 0.5 is usual.

    Returns:
        scalar loss, and rewards (N, 2): chosen, rejected.

    Raises:
        ConfigError: beta is not positive.
    """
    if not beta > 0:
        raise ConfigError(f"dpo_loss: beta must be more than 0, got {beta}.")
    xp = array_module(log_p.data)
    rewards = ((log_p - xp.asarray(reference, log_p.dtype)) * beta).reshape(-1, 2)  # (N, 2)
    chosen = xp.zeros(rewards.shape[0], dtype=np.int64)
    return F.cross_entropy(rewards, chosen), rewards


def with_reference(data: PreferenceSet, model: GPT) -> PreferenceSet:
    """The set with the log-probabilities of the model as it is now, as the frozen reference.

    They never change, so they are computed once, and no second model has to be kept.
    """
    return PreferenceSet(data.inputs, data.targets, _log_probabilities(model, data))


def evaluate_preferences(model: GPT, data: PreferenceSet, beta: float) -> dict[str, float]:
    """Loss, mean implicit rewards, their margin, and how often the chosen answer wins (accuracy).

    A tie counts half: before training all rewards are 0, and the accuracy is that of a coin.

    Raises:
        ConfigError: the set has no reference yet.
    """
    loss, rewards = dpo_loss(Tensor(_log_probabilities(model, data)), _reference(data), beta)
    chosen, rejected = rewards.numpy().T
    return {
        "loss": float(loss.item()),
        "chosen_reward": float(chosen.mean()),
        "rejected_reward": float(rejected.mean()),
        "margin": float((chosen - rejected).mean()),
        "accuracy": float((chosen > rejected).mean() + (chosen == rejected).mean() / 2),
    }


def fit_preferences(
    model: GPT,
    train: PreferenceSet,
    validation: PreferenceSet,
    settings: FitSettings,
    beta: float = 0.1,
    report: PrintLine | None = None,
    communicator: Communicator | None = None,
    run: RunFolder | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """DPO. Dropout is off, so that the policy starts out equal to the reference.

    Args:
        report, communicator, run, callbacks: lines, processes, checkpoints and a progress bar, see
            `loop.fit`.

    Raises:
        ConfigError: a set has no reference (see `with_reference`), or beta is not positive.
    """
    reference = _reference(train)

    def batch_of(numbers: np.ndarray, few_shapes: bool) -> Batch:
        rows = _rows_of(numbers)  # (2 B,)
        inputs, answers = _collate(train, rows, few_shapes)
        wins = np.zeros(len(numbers), np.int64)  # (B,): of each pair the first, what is counted
        return inputs, *answers, reference[rows], wins

    def loss_of(batch: Batch) -> Tensor:
        inputs, row, column, tokens, log_p_reference, _ = batch
        model.eval()
        log_p = answer_log_probabilities(model, inputs, (row, column, tokens))  # (2 B,)
        return dpo_loss(log_p, log_p_reference, beta)[0]

    def evaluate() -> dict[str, float]:
        return evaluate_preferences(model, validation, beta)

    parts = (train.lengths, batch_of, loss_of, evaluate)
    return fit(model, *parts, settings, report, communicator, run, callbacks)


def _log_probabilities(model: GPT, data: PreferenceSet) -> np.ndarray:
    """log p(answer | prompt) of every row (2 N,), in evaluation mode."""
    out = np.empty(len(data.inputs), np.float32)
    with model.evaluating(), no_grad():
        for numbers in counted(buckets(data.lengths, _EVAL_BATCH), "reading"):
            rows = _rows_of(numbers)
            out[rows] = to_numpy(answer_log_probabilities(model, *_collate(data, rows)).data)
    return out


def _rows_of(numbers: np.ndarray) -> np.ndarray:
    """The two rows of each pair, chosen first."""
    return (2 * numbers[:, None] + np.array([0, 1])).reshape(-1)


def _collate(
    data: PreferenceSet, rows: np.ndarray, few_shapes: bool = False
) -> tuple[np.ndarray, Answers]:
    """Inputs (B, T), and the answers; with few shapes as many tokens as the longest would have."""
    inputs = [data.inputs[i] for i in rows]
    longest, longest_answer = data.longest
    columns = room_for(max(map(len, inputs)), longest, few_shapes)
    ids, _ = pad(inputs, 0, columns)
    targets, _ = pad([data.targets[i] for i in rows], IGNORE)
    row, column = np.nonzero(targets != IGNORE)
    answers = row, column, targets[row, column]
    if not few_shapes:
        return ids, answers
    empty = len(rows) * min(columns, longest_answer) - len(row)
    nowhere = (0, 0, IGNORE)  # a place that is computed and does not count
    row, column, tokens = (
        np.pad(a, (0, empty), constant_values=n) for a, n in zip(answers, nowhere, strict=True)
    )
    return ids, (row, column, tokens)


def _reference(data: PreferenceSet) -> np.ndarray:
    if data.reference is None:
        raise ConfigError("preferences: call with_reference(data, model) before training starts.")
    return data.reference
