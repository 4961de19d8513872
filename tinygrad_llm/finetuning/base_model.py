"""A base model worth fine-tuning: opened from a folder, or pretrained on the spot.

A small model pretrained for some minutes on texts like those it will see learns the task from far
fewer labelled examples than one that starts from random weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinygrad_llm import tokenizers
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.data import corpora
from tinygrad_llm.data.sliding_window import encode_documents, split_ids
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.finetuning.loop import raise_if_signalled
from tinygrad_llm.generation.open_checkpoint import find_checkpoint, open_checkpoint
from tinygrad_llm.nn import GPT
from tinygrad_llm.nn.saved_model import as_gpt
from tinygrad_llm.pretrained import SIZES
from tinygrad_llm.terminal import say
from tinygrad_llm.tokenizers import BPETokenizer, Tokenizer
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT
from tinygrad_llm.training.report.progress_bar import ProgressBar
from tinygrad_llm.training.run.assemble import make_model, make_trainer
from tinygrad_llm.training.run.folder import RunFolder
from tinygrad_llm.training.run.text import TokenText, checksum
from tinygrad_llm.training.settings.config import TrainConfig
from tinygrad_llm.training.settings.flags import differences

# Two cores, a few minutes. Dropout, since the texts are read several times.
SMALL = TrainConfig(
    n_layer=4,
    n_head=4,
    n_embd=128,
    context_length=128,
    vocab_size=1024,
    dropout=0.1,
    steps=600,
    batch_size=16,
    warmup=50,
    learning_rate=2e-3,
    min_learning_rate=2e-4,
    eval_every=200,
    eval_tokens=8192,
    sample_every=0,
    checkpoint_every=0,
)


TRAINED = Path("runs/pydoc-bpe")  # what `tinygrad-llm train` leaves
REFERENCE_WIDTH = 128  # what `rate_for_width` scales from: SMALL's


@dataclass(frozen=True)
class BaseModel:
    """A language model and its tokenizer.

    Attributes:
        origin: where it comes from, for people.
    """

    model: GPT
    tokenizer: Tokenizer
    origin: str


def add_base(parser: argparse.ArgumentParser) -> None:
    """Add ``--base`` and ``--pretrain-steps``; `name_base` and `new_base` read them."""
    group = parser.add_argument_group("base model")
    group.add_argument(
        "--base",
        metavar="FOLDER",
        default="auto",
        help="a run's folder or a checkpoint's, gpt2, or new for one that is pretrained first "
        f"(default: {TRAINED} if it exists, else new)",
    )
    steps = SMALL.steps
    group.add_argument(
        "--pretrain-steps",
        type=int,
        default=steps,
        help=f"steps of a new base model (default: {steps})",
    )


def name_base(wanted: str) -> str:
    """What ``--base`` means: ``"new"``, a name such as "gpt2", or the folder of a checkpoint.

    Raises:
        CheckpointError: there is no such folder, or no checkpoint in it.
    """
    if wanted == "auto":
        try:
            return str(find_checkpoint(TRAINED))
        except CheckpointError:
            return "new"
    is_name = wanted == "new" or (wanted in SIZES and not Path(wanted).is_dir())
    return wanted if is_name else str(find_checkpoint(Path(wanted)))


def new_base(
    arguments: argparse.Namespace,
    texts: Sequence[str],
    name: str,
    special_tokens: Sequence[str] = (),
    run: RunFolder | None = None,
) -> BaseModel:
    """A small model, pretrained on texts and the Python manual.

    Args:
        arguments: with those of `add_base`, and ``seed``, ``device``, ``dtype`` and ``graph``.
        texts, special_tokens, run: as for `pretrain`.
        name: of the texts, for people.

    Raises:
        KeyboardInterrupt: as `pretrain`.
    """
    prose = [document.text for document in corpora.load("pydoc")]
    config = replace(
        SMALL,
        steps=arguments.pretrain_steps,
        seed=arguments.seed,
        device=arguments.device,
        dtype=arguments.dtype or SMALL.dtype,
        graph=arguments.graph,
    )
    return pretrain(
        [*texts, *prose], config, special_tokens, f"{name} and the Python manual", run=run
    )


def rate_for_width(rate: float, n_embd: int) -> float:
    """A learning rate found at width 128, for another one: wider models want smaller steps."""
    return rate * (REFERENCE_WIDTH / n_embd) ** 1.5


def open_base(
    folder_or_name: str, dropout: float = 0.1, device: str = "cpu", dtype: str | None = None
) -> BaseModel:
    """A pretrained model with its tokenizer: the folder of a checkpoint or a run, or "gpt2".

    Args:
        dropout: put into the model; fine-tuning on a small set wants some.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        dtype: as for `open_checkpoint`.

    Raises:
        CheckpointError: there is no such model, or its tokenizer is another model's.
        ConfigError: the model is no GPT.
        TokenizerError: it has no tokenizer.
        DeviceError: the device is unknown or absent.
    """
    opened, tokenizer = open_checkpoint(folder_or_name, device, dtype)
    model = as_gpt(opened)
    model.set_dropout(dropout)
    return BaseModel(model, tokenizer, str(folder_or_name))


def pretrain(
    texts: Sequence[str],
    config: TrainConfig = SMALL,
    special_tokens: Sequence[str] = (),
    name: str = "texts",
    run: RunFolder | None = None,
) -> BaseModel:
    """Learn a tokenizer and a small GPT from texts, from nothing; prints how it goes.

    Args:
        texts: one string per document; they are shuffled, so that the part for validation is like
            the rest.
        config: sizes, steps and device; what concerns text sources and checkpoints is not used.
        special_tokens: for the tokenizer, besides ``<|endoftext|>``.
        name: of the texts, for people.
        run: where checkpoints are written, and where it goes on from the newest.

    Raises:
        DataError: too little text.
        ConfigError, CheckpointError: ``run`` began with other sizes or texts, or is damaged.
        KeyboardInterrupt: Ctrl-C or SIGTERM came, which is its argument.
    """
    checkpoint, state = (run and run.load_newest(print)) or (None, None)
    if state is not None:
        differences(TrainConfig.from_dict(state["config"]), config.to_dict())
    config = replace(config, checkpoint_every=config.eval_every if run else 0)
    shuffled = [texts[i] for i in Generator(config.seed).permutation(len(texts))]
    if checkpoint is None:
        special = (END_OF_TEXT, *special_tokens)
        tokenizer: Tokenizer = BPETokenizer.train(shuffled, config.vocab_size, special)
    else:
        tokenizer = tokenizers.load(checkpoint)
    ids = encode_documents(shuffled, tokenizer)
    train, validation = split_ids(ids, config.validation_fraction, config.context_length)
    described = f"{len(texts):,} texts, {len(ids):,} tokens"
    text = TokenText(name, tokenizer, train, validation, described, checksum(np.asarray(ids)))
    model = as_gpt(make_model(config, tokenizer.vocab_size, checkpoint))
    say(
        f"Pretraining {model.num_parameters():,} parameters on {name}: {described}, vocabulary "
        f"{tokenizer.vocab_size}, {config.steps} steps.",
        flush=True,
    )
    if state is not None:
        say(f"Going on after step {state['step']} of {config.steps} ({checkpoint}).", flush=True)
    result = make_trainer(config, text, model, run, state, [ProgressBar()]).fit()
    raise_if_signalled(result.stopped_by)
    return BaseModel(model.eval(), tokenizer, f"pretrained on {name} ({described})")
