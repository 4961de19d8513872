"""A GPT that answers with a class: the language model's last layer gives way to a small head.

    ids (B, T)  ->  GPT without its output layer  ->  hidden (B, T, C)
                ->  hidden of the last real token, or the mean over the real tokens  (B, C)
                ->  head  ->  logits (B, K)

The last token is the only one that has seen the whole message, so the head reads there. The mean
over all tokens is the other usual choice; small models learn faster from it.

Source: Radford et al., "Improving language understanding by generative pre-training", 2018,
section 3.2; Raschka, "Build a large language model (from scratch)", 2024, chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import Array, array_module, to_numpy
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.distributed import Communicator
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.finetuning.collate import IGNORE, last_real, pad, room_for
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.labelled_texts import LabelledTexts
from tinygrad_llm.finetuning.loop import FitSettings, fit
from tinygrad_llm.finetuning.metrics import score
from tinygrad_llm.finetuning.progress import counted
from tinygrad_llm.generation.finite_scores import check_scores, first_cause
from tinygrad_llm.nn import GPT, Dropout, Linear, Module
from tinygrad_llm.nn.lora import apply_lora, freeze
from tinygrad_llm.training.loop_settings import Batch
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.run.folder import PrintLine, RunFolder

POOLINGS = ("last", "mean")
TRAINABLE = ("all", "last-block", "head", "lora")
_EVAL_BATCH = 64


class TextClassifier(Module):
    """A GPT body with a classification head.

    Parameters: those of ``gpt``, and ``head`` (K, C), (K,).

    Args:
        gpt: the language model; it is used as it is, not copied.
        n_classes: K.
        pooling: "last" reads at the last real token, "mean" averages over the real tokens.
        dropout: on what the head reads, in training.
        generator: source of the head's initial values.

    Raises:
        ConfigError: fewer than two classes, or an unknown pooling.
    """

    def __init__(
        self,
        gpt: GPT,
        n_classes: int,
        pooling: str = "last",
        dropout: float = 0.1,
        generator: Generator | None = None,
    ) -> None:
        if n_classes < 2 or pooling not in POOLINGS:
            raise ConfigError(
                f"TextClassifier: expected n_classes of at least 2 and pooling {POOLINGS}, got "
                f"{n_classes} and {pooling!r}."
            )
        self.gpt, self.pooling, self.n_classes = gpt, pooling, n_classes
        self.dropout = Dropout(dropout)
        self.head = Linear(gpt.config.n_embd, n_classes, generator=generator)
        self.head.to(gpt.token_embedding.weight.dtype).to(gpt.device)

    def forward(self, ids: TensorLike, lengths: Array) -> Tensor:
        """Right-padded ids (B, T) with ``lengths`` (B,) real tokens each -> logits (B, K)."""
        return self.classify(self.gpt.hidden(ids), lengths)

    def classify(self, hidden: Tensor, lengths: Array) -> Tensor:
        """Hidden states (B, T, C) -> logits (B, K)."""
        xp = array_module(hidden.data)
        lengths = xp.asarray(lengths)
        if self.pooling == "last":
            pooled = hidden[xp.arange(len(lengths)), last_real(lengths)]  # (B, C)
        else:
            real = xp.arange(hidden.shape[1]) < lengths[:, None]  # (B, T)
            weight = (real / lengths[:, None]).astype(np.float32)  # (B, T)
            pooled = (hidden * xp.asarray(weight[:, :, None], hidden.dtype)).sum(axis=1)  # (B, C)
        return self.head(self.dropout(pooled))


def choose_trainable(
    classifier: TextClassifier,
    which: str,
    rank: int = 8,
    alpha: float = 16.0,
    generator: Generator | None = None,
) -> int:
    """Freeze what shall stay as it is; the head is always trained.

    Args:
        which: "all"; "last-block": the last block and the last norm, as in the book; "head"; or
            "lora": low-rank changes to the frozen attention and feed-forward layers.
        rank, alpha, generator: of LoRA, see `nn.apply_lora`.

    Returns:
        the number of trainable parameters.

    Raises:
        ConfigError: an unknown choice.
    """
    if which not in TRAINABLE:
        raise ConfigError(f"trainable: expected one of {', '.join(TRAINABLE)}, got {which!r}.")
    if which == "all":
        classifier.requires_grad_(True)
    elif which == "lora":
        targets = ("attention.qkv", "attention.projection", "expand", "project")
        apply_lora(classifier.gpt, rank, alpha, targets, generator=generator)
        classifier.head.requires_grad_(True)
    else:
        last = f"gpt.blocks.{len(classifier.gpt.blocks) - 1}"
        freeze(classifier, ["head"] if which == "head" else [last, "gpt.final_norm", "head"])
    return classifier.num_parameters(trainable_only=True)


def class_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights (K,) with which rare and frequent classes count alike: N / (K count).

    Raises:
        DataError: a class does not occur.
    """
    counts = np.bincount(labels, minlength=n_classes)
    if (counts == 0).any():
        raise DataError(
            f"class_weights: class {int(counts.argmin())} does not occur among {len(labels)} "
            "examples. A classifier needs examples of every class."
        )
    return (len(labels) / (n_classes * counts)).astype(np.float32)


def logits_of(classifier: TextClassifier, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Logits (N, K) of any number of texts, in batches of like length, in evaluation mode."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    out = np.empty((len(rows), classifier.n_classes), np.float32)
    with classifier.evaluating(), no_grad():
        for i in counted(range(0, len(rows), _EVAL_BATCH), "reading"):
            batch = order[i : i + _EVAL_BATCH]
            ids, lengths = pad([rows[j] for j in batch], 0)  # (B, T)
            out[batch] = to_numpy(classifier(ids, lengths).data)
    return out


def probabilities_of(classifier: TextClassifier, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """p(class) of each text: (N, K).

    Raises:
        NumericsError: the classifier's scores are NaN or infinite; says where that begins.
    """
    logits = logits_of(classifier, rows)
    check_scores("probabilities_of", logits, lambda: first_cause(classifier.gpt, rows[0]))
    return F.softmax(logits).numpy()


def fit_classifier(
    classifier: TextClassifier,
    train: LabelledTexts,
    validation: LabelledTexts,
    settings: FitSettings,
    balance: bool = False,
    language_weight: float = 0.0,
    report: PrintLine | None = None,
    communicator: Communicator | None = None,
    run: RunFolder | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Fine-tune the trainable parameters on labelled texts.

    With a language weight the model also goes on learning to predict the next token of the
    messages, L = L_class + w L_next_token, which keeps it from learning a small set by heart
    (Radford et al. 2018, section 3.2, with w = 0.5).

    Args:
        balance: weight the classes so that each counts the same in the loss.
        language_weight: w.
        report, communicator, run, callbacks: lines, processes, checkpoints and a progress bar, see
            `loop.fit`.

    Raises:
        DataError: a class does not occur in the training set.
    """
    weights = class_weights(train.labels, classifier.n_classes)
    if not balance:
        weights = np.ones_like(weights)

    longest = max(train.lengths)

    def batch_of(numbers: np.ndarray, few_shapes: bool) -> Batch:
        rows = [train.rows[i] for i in numbers]
        columns = room_for(max(map(len, rows)), longest, few_shapes)
        ids, lengths = pad(rows, 0, columns)  # (B, T), (B,)
        labels = train.labels[numbers]  # (B,)
        return ids, lengths, weights[labels], labels

    def loss_of(batch: Batch) -> tuple[Tensor, Tensor]:
        ids, lengths, weight, labels = batch
        hidden = classifier.gpt.hidden(ids)  # (B, T, C)
        logits = classifier.classify(hidden, lengths)  # (B, K)
        losses = F.cross_entropy(logits, labels, reduction="none")  # (B,)
        weight = array_module(losses.data).asarray(weight, losses.dtype)  # (B,)
        of_classes = loss = (losses * weight).mean()
        if language_weight:
            loss = loss + language_loss(classifier.gpt, hidden, ids, lengths) * language_weight
        return loss, of_classes

    def evaluate() -> dict[str, float]:
        return evaluate_classifier(classifier, validation)

    parts = (train.lengths, batch_of, loss_of, evaluate)
    return fit(classifier, *parts, settings, report, communicator, run, callbacks)


def language_loss(gpt: GPT, hidden: Tensor, ids: Array, lengths: Array) -> Tensor:
    """Mean loss of the next real tokens, from hidden states (B, T, C) that exist already."""
    xp = array_module(hidden.data)
    ids, last = xp.asarray(ids), last_real(xp.asarray(lengths))
    targets = xp.full_like(ids, IGNORE)  # (B, T)
    targets[:, :-1] = ids[:, 1:]
    targets = xp.where(xp.arange(ids.shape[1]) < last[:, None], targets, IGNORE)
    return gpt.loss_of_hidden(hidden, targets, IGNORE)


def evaluate_classifier(classifier: TextClassifier, data: LabelledTexts) -> dict[str, float]:
    """Loss, accuracy, balanced accuracy and F1 (of the last class)."""
    logits = logits_of(classifier, data.rows)
    loss = F.cross_entropy(logits, data.labels).item()
    k = classifier.n_classes
    scores = score(data.labels, logits.argmax(axis=-1), k, positive=k - 1)
    return {
        "loss": float(loss),
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        "f1": scores.f1,
    }
