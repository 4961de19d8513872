"""Turn a GPT into a spam filter.

    tinygrad-llm finetune spam                               # made-up messages, offline
    tinygrad-llm finetune spam --data SMSSpamCollection.tsv  # the real set, from a file
    tinygrad-llm finetune spam --data sms-spam               # the real set, downloaded
    tinygrad-llm finetune spam --trainable all lora head     # compare what is trained
    tinygrad-llm finetune spam --resume                      # go on after Ctrl-C
    tinygrad-llm finetune spam --predict "WINNER! Call now"  # ask the finished filter

Starts from the model of tinygrad-llm train if there is one, otherwise from a small model that is
pretrained on the spot. Prints scores beside two baselines, lists what was wrongly classified, and
draws the confusion matrix, the threshold curve and the training curve.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygrad_llm.backend.random import manual_seed
from tinygrad_llm.commands.finetune.session import add_run, computed_as, run_tuning, tune_in_folder
from tinygrad_llm.commands.finetune.spam_report import Parts, baseline_rows, draw, wrong_messages
from tinygrad_llm.commands.flags import Parser, count, rate, seed, whole, within
from tinygrad_llm.commands.program import add_machine, command_parser
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.data import spam
from tinygrad_llm.finetuning.base_model import (
    BaseModel,
    add_base,
    name_base,
    new_base,
    open_base,
    rate_for_width,
)
from tinygrad_llm.finetuning.classification import (
    POOLINGS,
    TRAINABLE,
    TextClassifier,
    choose_trainable,
    fit_classifier,
    probabilities_of,
)
from tinygrad_llm.finetuning.classifier_folder import SETTINGS_NAME, Classifier
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.labelled_texts import LabelledTexts, encode_labelled
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.metrics import (
    confusion_matrix,
    format_confusion,
    score,
    score_table,
    threshold_curve,
)
from tinygrad_llm.finetuning.progress import TuningBar
from tinygrad_llm.finetuning.tuning_folder import TuningFolder, checksum_of_examples
from tinygrad_llm.hints import command
from tinygrad_llm.terminal import say
from tinygrad_llm.training.run.folder import RunFolder

# The fewer parameters are trained, the larger the steps they can take, and the more they need.
LEARNING_RATES = {"all": 1e-3, "last-block": 2e-3, "head": 1e-2, "lora": 6e-3}  # at width 128
EPOCHS = {"all": 3, "last-block": 3, "head": 4, "lora": 4}
MIN_STEPS = 400  # a small set needs more epochs
SETS = ("full", "balanced")  # the filter of the first one that is there answers --predict


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("finetune spam", __doc__)
    add = parser.add_argument_group("data").add_argument
    text = 'a .tsv or .csv file with label and text, or "sms-spam" to download the real set'
    add("--data", metavar="FILE", help=f"{text} (default: 200 made-up messages)")
    text = "balanced: as many ham as spam messages; full: all (default: both)"
    add("--sets", nargs="+", choices=sorted(SETS), default=sorted(SETS), help=text)
    add("--unique", action="store_true", help="drop messages that occur twice, before splitting")
    add("--max-length", type=count, default=120, help="tokens read of each message (default: 120)")
    add_base(parser)
    add_tuning(parser)
    add_run(parser, "runs/spam")
    parser.add_argument(
        "--predict", nargs="+", metavar="TEXT", help="classify texts with the filter in --out"
    )
    add_machine(parser)
    return parser


def add_tuning(parser: argparse.ArgumentParser) -> None:
    """The flags of fine-tuning."""
    add = parser.add_argument_group("fine-tuning").add_argument
    text = "weights to train; several choices are compared (default: all)"
    add("--trainable", nargs="+", choices=TRAINABLE, default=["all"], help=text)
    add("--pooling", choices=POOLINGS, default="mean", help="what the head reads (default: mean)")
    text = "passes over the training set (default: 3, more for small sets)"
    add("--epochs", type=count, help=text)
    add("--batch-size", type=count, default=16, help="messages in a step (default: 16)")
    text = "default: 1e-3 for a model 128 wide, less for wider ones, more where less is trained"
    add("--learning-rate", type=rate, help=text)
    text = "stop after so many validations without a new best (default: 8)"
    add("--patience", type=whole(0), default=8, help=text)
    add("--class-weights", action="store_true", help="give rare and frequent classes equal weight")
    text = "weight of the next-token loss beside that of the classes; 0 for none"
    add("--language-weight", type=within(0), default=0.5, help=f"{text} (default: 0.5)")
    add("--rank", type=count, default=4, help="rank of the LoRA matrices (default: 4)")
    add("--seed", type=seed, default=123, help="seed of splits, order and head (default: 123)")


def load_parts(arguments: argparse.Namespace) -> dict[str, Parts]:
    """Training, validation and test messages of each set."""
    messages = spam.load(arguments.data)
    if arguments.unique:
        messages = list({m.text: m for m in messages}.values())
    kinds = {"balanced": spam.balanced(messages, arguments.seed), "full": messages}
    return {name: spam.split(kinds[name], seed=arguments.seed) for name in arguments.sets}


def make_base(
    arguments: argparse.Namespace, sets: dict[str, Parts], folder: TuningFolder
) -> BaseModel:
    """A new model; it never sees a validation or test message of any set."""
    held_out = {m.text for _, *rest in sets.values() for part in rest for m in part}
    texts = sorted({m.text for train, *_ in sets.values() for m in train} - held_out)
    return new_base(arguments, texts, "the messages", run=folder.stage("base"))


def encode(messages: Sequence[spam.Message], base: BaseModel, max_length: int) -> LabelledTexts:
    """Messages as tokens."""
    texts, labels = [m.text for m in messages], [m.label for m in messages]
    return encode_labelled(texts, labels, base.tokenizer, spam.LABELS, max_length)


def tune(
    arguments: argparse.Namespace,
    base: BaseModel,
    parts: list[LabelledTexts],
    which: str,
    run: RunFolder,
) -> tuple[TextClassifier, History]:
    """A classifier, fine-tuned from a copy of the base model."""
    manual_seed(arguments.seed)  # of the head, LoRA and dropout
    module = TextClassifier(copy.deepcopy(base.model), len(spam.LABELS), arguments.pooling)
    trained = choose_trainable(module, which, arguments.rank)
    whole = module.num_parameters()
    say(f"\nTraining {which}: {trained:,} of {whole:,} parameters ({trained / whole:.1%}).")
    steps = -(-len(parts[0].rows) // arguments.batch_size)  # in an epoch
    settings = FitSettings(
        epochs=arguments.epochs or max(EPOCHS[which], -(-MIN_STEPS // steps)),
        batch_size=arguments.batch_size,
        evaluations=2 if steps >= 40 else 1,
        learning_rate=arguments.learning_rate
        or rate_for_width(LEARNING_RATES[which], base.model.config.n_embd),
        patience=arguments.patience,
        **computed_as(arguments),
    )
    bar = TuningBar()
    history = fit_classifier(
        module,
        parts[0],
        parts[1],
        settings,
        arguments.class_weights,
        arguments.language_weight,
        report=bar.print,
        run=run,
        callbacks=[bar],
    )
    if history.stopped_by:
        say(f"({history.stopped_by})")
    return module, history


def run_set(
    arguments: argparse.Namespace, base: BaseModel, name: str, parts: Parts, folder: TuningFolder
) -> str:
    """Fine-tune on one set and report; returns the score table."""
    train, validation, test = parts
    known = {m.text for m in train}
    repeated = sum(m.text in known for m in test)
    say(
        f"\n=== {name} set: {len(train)} training, {len(validation)} validation, {len(test)} "
        f"test messages; {repeated} of these also occur in training ==="
    )
    length = min(arguments.max_length, base.model.config.context_length)
    encoded = [encode(part, base, length) for part in parts]
    labels = spam.class_ids(test)
    rows = baseline_rows(parts)
    for number, which in enumerate(arguments.trainable):
        module, history = tune(arguments, base, encoded, which, folder.stage(f"{name}-{which}"))
        classifier = Classifier(module, base.tokenizer, spam.LABELS, length)
        p_validation = probabilities_of(module, encoded[1].rows)[:, 1]
        p_test = probabilities_of(module, encoded[2].rows)
        rows.append((f"GPT, {which}", score(labels, classifier.decide(p_test))))
        best = threshold_curve(encoded[1].labels, p_validation).best()
        classifier.threshold = float(np.clip(best, 0.05, 0.95))
        called = classifier.decide(p_test)
        rows.append((f"  threshold {classifier.threshold:.2f}", score(labels, called)))
        if number == 0:
            counts = confusion_matrix(labels, called, len(spam.LABELS))
            written = classifier.save(folder.path / name)
            draw(written, name, counts, classifier, history, encoded[1].labels, p_validation)
            say(f"\n{format_confusion(counts, spam.LABELS)}")
            say(wrong_messages(test, p_test[:, 1], called))
            say(f"Written to {one_line(written)}")
    title = f"{name} set, {len(test)} test messages" + (
        "" if arguments.data else " (made up: the scores say nothing about real spam)"
    )
    return f"{title}\n{score_table(rows)}"


def predict(arguments: argparse.Namespace) -> int:
    """Classify the texts of ``--predict``."""
    out = Path(arguments.out)
    places = [out / name / SETTINGS_NAME for name in SETS] + [out / SETTINGS_NAME]
    folder = next((place.parent for place in places if place.is_file()), out)
    classifier = Classifier.load(folder, arguments.device, arguments.dtype)
    say(
        f"Filter: {one_line(folder)}, {one_line(classifier.class_names[1])} from a probability of "
        f"{classifier.threshold:.2f} on"
    )
    names = [one_line(name) for name in classifier.class_names]
    width = max(map(len, names))
    for text, p in zip(
        arguments.predict, classifier.probabilities(arguments.predict)[:, 1], strict=True
    ):
        label = names[int(p >= classifier.threshold)]
        cut = f" (only its first {classifier.max_length} tokens)" if classifier.is_cut(text) else ""
        say(f"{label:{width}}  p(spam) {p:.3f}  {text}{cut}")
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Classify texts, or tune in the folder of ``--out``."""
    if arguments.predict:
        return predict(arguments)
    arguments.base = name_base(arguments.base)
    folder = tune_in_folder(arguments, SETS, run_in)
    words = ("finetune", "spam", "--out", folder, "--predict", "your message")
    say(f"Ask the filter:\n  {command(*words)}")
    return 0


def run_in(folder: TuningFolder, arguments: argparse.Namespace) -> None:
    """Pretrain or open, fine-tune, report."""
    started = time.perf_counter()
    sets = load_parts(arguments)
    where = arguments.device, arguments.dtype
    opened = None if arguments.base == "new" else open_base(arguments.base, 0.1, *where)
    folder.begin(checksum_of_examples(m for parts in sets.values() for p in parts for m in p))
    base = opened or make_base(arguments, sets, folder)
    say(f"Base model: {one_line(base.origin)}, {base.model.num_parameters():,} parameters.")
    tables = [run_set(arguments, base, name, parts, folder) for name, parts in sets.items()]
    folder.finish()
    say("\n" + "\n\n".join(tables))
    say(f"\n{time.perf_counter() - started:.0f} s in all. Written to {one_line(folder.path)}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and run; an error becomes one sentence and status 2."""
    return run_tuning(run, build_parser(), argv)
