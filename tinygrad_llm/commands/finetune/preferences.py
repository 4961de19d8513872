"""Preference tuning (DPO): of two answers to one prompt, make the better one more likely.

    tinygrad-llm finetune preferences                    # after finetune instructions
    tinygrad-llm finetune preferences --base FOLDER --beta 0.5 --trainable lora
    tinygrad-llm finetune preferences --resume           # go on after Ctrl-C
    tinygrad-llm chat runs/preferences --temperature 0   # ask: Say hello to Grace.

The set is constructed, so its right answer is known: the polite answer is wanted, the rude one is
not, and the test is about people that training never mentions. First the model learns to give
either answer, as often polite as rude; this model is the frozen reference. Then DPO. Printed are
the implicit rewards, their margin, how often the model prefers the polite answer (accuracy, where a
tie counts half, as all are before DPO), and what it writes before and after.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm.backend.random import manual_seed
from tinygrad_llm.commands.finetune.session import (
    ASSISTANT_FILES,
    add_run,
    computed_as,
    run_tuning,
    tune_in_folder,
)
from tinygrad_llm.commands.flags import Parser, count, rate, seed
from tinygrad_llm.commands.program import add_machine, command_parser
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import TEMPLATES, Template
from tinygrad_llm.errors import CheckpointError, MissingDependencyError
from tinygrad_llm.finetuning import plots
from tinygrad_llm.finetuning.base_model import name_base, rate_for_width
from tinygrad_llm.finetuning.constructed import polite_preferences
from tinygrad_llm.finetuning.conversation import load_assistant, save_assistant
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.instruction import encode_instructions, fit_instructions
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.preference import (
    Preference,
    encode_preferences,
    fit_preferences,
    with_reference,
)
from tinygrad_llm.finetuning.progress import TuningBar
from tinygrad_llm.finetuning.responses import Response, respond
from tinygrad_llm.finetuning.tuning_folder import TuningFolder, checksum_of_examples
from tinygrad_llm.hints import command
from tinygrad_llm.nn import GPT, apply_lora, remove_lora
from tinygrad_llm.nn.saved_model import as_gpt
from tinygrad_llm.terminal import say
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.run.folder import RunFolder

ASSISTANT, PICTURE = "runs/assistant", "training.png"
SHOWN, SMALL = 5, 50_000_000
LEARNING_RATES = {"all": 1e-4, "lora": 1e-3}  # at width 128; DPO wants small steps


@dataclass(frozen=True)
class Task:
    """What is tuned, and on what."""

    model: GPT
    tokenizer: Tokenizer
    template: Template
    train: list[Preference]
    test: list[Preference]


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("finetune preferences", __doc__)
    add = parser.add_argument
    text = f"a tuned model, a run's folder or gpt2 (default: {ASSISTANT})"
    add("--base", metavar="FOLDER", default=ASSISTANT, help=text)
    add("--template", choices=sorted(TEMPLATES), help="prompt format (default: the model's own)")
    add("--trainable", choices=sorted(LEARNING_RATES), default="all", help="default: all")
    add(
        "--beta",
        type=rate,
        default=0.1,
        help="how strongly the model is held to the reference (default: 0.1)",
    )
    add("--first-epochs", type=count, default=6, help="epochs of the first part (default: 6)")
    add("--epochs", type=count, default=4, help="epochs of DPO (default: 4)")
    add("--learning-rate", type=rate, help="rate of DPO (default: 1e-4 for width 128)")
    add("--seed", type=seed, default=0, help="seed of split and order (default: 0)")
    add_run(parser, "runs/preferences")
    add_machine(parser)
    return parser


def both_answers(pairs: Sequence[Preference]) -> list[Instruction]:
    """Each prompt with the polite and with the rude answer."""
    return [Instruction(p.instruction, p.input, a) for p in pairs for a in (p.chosen, p.rejected)]


def draw(history: History, out: Path) -> None:
    """The curves, if matplotlib is there."""
    try:
        measures = ("loss", "chosen_reward", "rejected_reward", "margin", "accuracy")
        say(f"Curves: {one_line(plots.draw_history(history, out / PICTURE, 'DPO', measures))}")
    except MissingDependencyError as error:
        say(f"(no picture: {error})")


def tuned_base(wanted: str) -> str:
    """The checkpoint that ``--base`` means.

    Raises:
        CheckpointError: there is none.
    """
    if wanted == ASSISTANT and not Path(wanted).is_dir():
        raise CheckpointError(
            f"{wanted}: there is no tuned model yet. Make one first, or name another with --base:",
            f"  {command('finetune', 'instructions')}",
        )
    return name_base(wanted)


def run(arguments: argparse.Namespace) -> int:
    """Tune in the folder of ``--out``."""
    arguments.base = tuned_base(arguments.base)
    folder = tune_in_folder(arguments, [*ASSISTANT_FILES, PICTURE], run_in)
    say("Talk to it, for example: Say hello to Grace.")
    say(f"  {command('chat', folder, '--temperature', 0)}")
    return 0


def run_in(folder: TuningFolder, arguments: argparse.Namespace) -> None:
    """Learn both answers, then prefer one."""
    base, tokenizer, tuned_in, _ = load_assistant(arguments.base, arguments.device, arguments.dtype)
    model = as_gpt(base)
    model.set_dropout(0.0)
    template = TEMPLATES[arguments.template] if arguments.template else tuned_in
    train, test = polite_preferences(arguments.seed)
    task = Task(model, tokenizer, template or TEMPLATES["chat"], train, test)
    folder.begin(checksum_of_examples([*train, *test]))
    manual_seed(arguments.seed)

    learn_both(arguments, task, folder.stage("both-answers"))
    before = answers(task)
    history = prefer(arguments, task, folder.stage("dpo"))
    after = answers(task)
    save_assistant(folder.path, model, tokenizer, task.template)
    draw(history, folder.path)
    folder.finish()

    say("\nGreedy answers about a person who does not occur in training:")
    for old, new in zip(before, after, strict=True):
        say(f"  {old.instruction}")
        say(f"    before DPO  {old.answer}\n    after DPO   {new.answer}")
    say(f"\n{what_to_expect(history, model.num_parameters())}\nWritten to {one_line(folder.path)}")


def answers(task: Task) -> list[Response]:
    """What the model writes about the first person of the test part."""
    asked = [Instruction(p.instruction, "", p.chosen) for p in task.test[:SHOWN]]
    room = min(32, task.model.config.context_length // 2)
    return respond(task.model, task.tokenizer, task.template, asked, room)


def learn_both(arguments: argparse.Namespace, task: Task, run: RunFolder) -> None:
    """The first part: either answer becomes likely."""
    say(f"Learning both answers of {len(task.train)} prompts ({arguments.base}).", flush=True)
    longest, bar = task.model.config.context_length, TuningBar()
    train, test = (
        encode_instructions(both_answers(pairs), task.template, task.tokenizer, longest)
        for pairs in (task.train, task.test)
    )
    rate = rate_for_width(1e-3, task.model.config.n_embd)
    settings = FitSettings(arguments.first_epochs, 16, rate, **computed_as(arguments))
    fit_instructions(task.model, train, test, settings, report=bar.print, run=run, callbacks=[bar])


def prefer(arguments: argparse.Namespace, task: Task, run: RunFolder) -> History:
    """The second part: DPO against the model as it is, on all weights or by LoRA."""
    say(f"\nDPO against this model as the reference, beta {arguments.beta}.", flush=True)
    model, bar = task.model, TuningBar()
    if arguments.trainable == "lora":
        apply_lora(model, targets=("attention.qkv", "attention.projection", "expand", "project"))
    longest = model.config.context_length
    train, test = (
        with_reference(encode_preferences(pairs, task.template, task.tokenizer, longest), model)
        for pairs in (task.train, task.test)
    )
    settings = FitSettings(
        arguments.epochs,
        8,
        arguments.learning_rate
        or rate_for_width(LEARNING_RATES[arguments.trainable], model.config.n_embd),
        evaluations=2,
        **computed_as(arguments),
    )
    history = fit_preferences(
        model, train, test, settings, arguments.beta, bar.print, run=run, callbacks=[bar]
    )
    remove_lora(model)
    return history


def what_to_expect(history: History, n_parameters: int) -> str:
    """What the figures say, and what they do not."""
    last = history.evaluations[history.best]
    text = (
        "The model gives the polite answer a higher reward than the rude one in "
        f"{last['accuracy']:.0%} of the test pairs. DPO teaches no more than that: which of two "
        "answers is more likely."
    )
    if n_parameters > SMALL:
        return text
    return (
        f"{text} With {n_parameters:,} parameters, names and words are often wrong, before and "
        "after. For text without such mistakes start from a larger --base."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and run; an error becomes one sentence and status 2."""
    return run_tuning(run, build_parser(), argv)
