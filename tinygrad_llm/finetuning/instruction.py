"""Instruction tuning: a model that completes text learns to answer.

The text is prompt and answer in a template; the loss counts the answer's tokens only. With
a the first token of the answer, and N tokens in all,

    L = -1/(N - a) sum_{t = a}^{N-1} log p(x_t | x_0 .. x_{t-1})

In arrays: inputs x[:-1], targets x[1:], where each target outside the answer is IGNORE. The model
reads the prompt, but is not asked to be able to write it.

Source: Wei et al., "Finetuned language models are zero-shot learners", 2021; Taori et al.,
"Stanford Alpaca", 2023; Raschka, "Build a large language model (from scratch)", 2024, chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.backend import Array
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import Template, Turn
from tinygrad_llm.distributed import Communicator
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.finetuning.collate import IGNORE, Packed, buckets, pack, pad, room_for
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.loop import FitSettings, fit
from tinygrad_llm.finetuning.progress import counted
from tinygrad_llm.nn import GPT
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.loop_settings import Batch
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.run.folder import PrintLine, RunFolder

_EVAL_BATCH = 16


@dataclass(frozen=True)
class InstructionSet:
    """Examples as inputs and targets, right-padding to come.

    Attributes:
        inputs: token ids of each example, without its last token.
        targets: the next token of each position, or IGNORE outside the answer.
        skipped: how many examples were left out because they are too long.
    """

    inputs: list[list[int]]
    targets: list[list[int]]
    skipped: int = 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(row) for row in self.inputs]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(self.lengths)


def encode_instructions(
    examples: Iterable[Instruction],
    template: Template,
    tokenizer: Tokenizer,
    max_length: int,
    too_long: str = "skip",
    system: str | None = None,
) -> InstructionSet:
    """Examples as inputs and masked targets.

    Args:
        max_length: tokens that fit, at most the model's context length.
        too_long: what becomes of an example with more: "skip", "truncate" its end (where some
            answer is left, otherwise it is skipped), or "error".
        system: what the system says in place of the template's own words; "" for nothing.

    Raises:
        ConfigError: an unknown ``too_long``.
        DataError: an empty answer; an example that is too long, if that is an error; or no
            example is left.
    """
    if too_long not in ("skip", "truncate", "error"):
        raise ConfigError(f"too_long: expected skip, truncate or error, got {too_long!r}.")
    inputs: list[list[int]] = []
    targets: list[list[int]] = []
    skipped = 0
    for number, example in enumerate(examples):
        turns = with_system(example.turns(), system)
        row, wanted = shift(*template.encode(turns, tokenizer))
        if len(row) > max_length and too_long == "error":
            raise DataError(
                f"instructions: example {number} has {len(row)} tokens, more than {max_length}. "
                "Shorten it, use a model with a longer context, or too_long='skip'."
            )
        if len(row) > max_length and too_long == "truncate":
            row, wanted = row[:max_length], wanted[:max_length]
        if len(row) > max_length or all(t == IGNORE for t in wanted):
            skipped += 1
            continue
        inputs.append(row)
        targets.append(wanted)
    if not inputs:
        raise DataError(
            f"instructions: no example is left ({skipped} are longer than {max_length} tokens). "
            "Use a longer context, a shorter template, or other data."
        )
    return InstructionSet(inputs, targets, skipped)


def with_system(turns: Sequence[Turn], system: str | None) -> list[Turn]:
    """The conversation with other words of the system at its beginning; None leaves it alone."""
    return list(turns) if system is None else [Turn("system", system), *turns]


def shift(ids: list[int], is_answer: list[bool]) -> tuple[list[int], list[int]]:
    """Inputs and targets of a conversation: position t predicts token t + 1, if it is answer."""
    targets = [i if counts else IGNORE for i, counts in zip(ids[1:], is_answer[1:], strict=True)]
    return ids[:-1], targets


def masked_loss(model: GPT, inputs: Array, targets: Array) -> Tensor:
    """Mean loss over the answer tokens of a right-padded batch: (B, T), (B, T) -> scalar."""
    return model.loss(inputs, targets, IGNORE)


def packed_loss(model: GPT, batch: Packed) -> Tensor:
    """The same of a packed batch: examples in one row do not see each other."""
    hidden = model.hidden(batch.ids, positions=batch.positions, mask=batch.mask)  # (B, T, C)
    return model.loss_of_hidden(hidden, batch.targets, IGNORE)


def collate(
    data: InstructionSet, numbers: Sequence[int], few_shapes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (B, T) of the examples of the given numbers, padded on the right."""
    rows = [data.inputs[i] for i in numbers]
    columns = room_for(max(map(len, rows)), data.longest, few_shapes)
    inputs, _ = pad(rows, 0, columns)
    targets, _ = pad([data.targets[i] for i in numbers], IGNORE, columns)
    return inputs, targets


def evaluate_instructions(model: GPT, data: InstructionSet) -> dict[str, float]:
    """Loss per answer token, every token of the set counting the same, and its perplexity."""
    nats, tokens = 0.0, 0
    with model.evaluating(), no_grad():
        for numbers in counted(buckets(data.lengths, _EVAL_BATCH), "reading"):
            inputs, targets = collate(data, numbers.tolist())
            n = int((targets != IGNORE).sum())
            nats += float(masked_loss(model, inputs, targets).item()) * n
            tokens += n
    return {"loss": nats / tokens, "perplexity": math.exp(min(nats / tokens, 700.0))}


def fit_instructions(
    model: GPT,
    train: InstructionSet,
    validation: InstructionSet,
    settings: FitSettings,
    packing: bool = False,
    report: PrintLine | None = None,
    communicator: Communicator | None = None,
    run: RunFolder | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Fine-tune on the answers; the weights with the lowest validation loss are kept.

    Args:
        packing: several examples in each row, up to the context length, instead of batches of
            examples of like length. Fewer, fuller rows; the attention needs a mask.
        report, communicator, run, callbacks: lines, processes, checkpoints and a progress bar, see
            `loop.fit`.
    """

    room = max(model.config.context_length // 2, train.longest)

    def batch_of(numbers: np.ndarray, few_shapes: bool) -> Batch:
        if not packing:
            return collate(train, numbers.tolist(), few_shapes)
        inputs = [train.inputs[i] for i in numbers]
        targets = [train.targets[i] for i in numbers]
        packed = pack(inputs, targets, room, 0, few_shapes)
        return packed.ids, packed.positions, packed.mask, packed.targets

    def loss_of(batch: Batch) -> Tensor:
        if not packing:
            return masked_loss(model, *batch)
        ids, positions, mask, targets = batch
        return packed_loss(model, Packed(ids, targets, positions, mask))

    def evaluate() -> dict[str, float]:
        return evaluate_instructions(model, validation)

    parts = (train.lengths, batch_of, loss_of, evaluate)
    return fit(model, *parts, settings, report, communicator, run, callbacks)
