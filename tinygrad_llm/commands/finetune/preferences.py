"""Preference tuning (DPO): of two answers to one prompt, make the better one more likely.

    tinygrad-llm finetune preferences                    # after finetune instructions
    tinygrad-llm finetune preferences --base FOLDER --beta 0.5 --trainable lora
    tinygrad-llm chat runs/preferences --temperature 0   # ask: Say hello to Grace.

The set is constructed, so its right answer is known: the polite answer is wanted, the rude one is
not, and the test is about people that training never mentions. First the model learns to give
either answer, as often polite as rude; this model is the frozen reference. Then DPO. Printed are
the implicit rewards, their margin, and how often the model prefers the polite answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tinygrad_llm.backend.random import manual_seed
from tinygrad_llm.commands.flags import Parser
from tinygrad_llm.commands.program import add_machine, command_parser, run_program
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import TEMPLATES
from tinygrad_llm.errors import MissingDependencyError
from tinygrad_llm.finetuning import plots
from tinygrad_llm.finetuning.base_model import rate_for_width
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
from tinygrad_llm.finetuning.responses import respond
from tinygrad_llm.nn import apply_lora, remove_lora
from tinygrad_llm.nn.saved_model import as_gpt

LEARNING_RATES = {"all": 1e-4, "lora": 1e-3}  # at width 128; DPO wants small steps


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("finetune preferences", __doc__)
    add = parser.add_argument
    add("--base", metavar="FOLDER", default="runs/assistant", help="default: runs/assistant")
    add("--template", choices=sorted(TEMPLATES), help="prompt format (default: the model's own)")
    add("--trainable", choices=sorted(LEARNING_RATES), default="all", help="default: all")
    add(
        "--beta",
        type=float,
        default=0.1,
        help="how strongly the model is held to the reference (default: 0.1)",
    )
    add("--first-epochs", type=int, default=6, help="epochs of the first part (default: 6)")
    add("--epochs", type=int, default=4, help="epochs of DPO (default: 4)")
    add("--learning-rate", type=float, help="rate of DPO (default: 1e-4 for width 128)")
    add("--seed", type=int, default=0, help="seed of split and order (default: 0)")
    add("--out", metavar="FOLDER", default="runs/preferences", help="default: runs/preferences")
    add_machine(parser)
    return parser


def both_answers(pairs: Sequence[Preference]) -> list[Instruction]:
    """Each prompt with the polite and with the rude answer."""
    return [Instruction(p.instruction, p.input, a) for p in pairs for a in (p.chosen, p.rejected)]


def draw(history: History, out: Path) -> None:
    """The curves, if matplotlib is there."""
    try:
        measures = ("loss", "chosen_reward", "rejected_reward", "margin", "accuracy")
        print(f"Curves: {plots.draw_history(history, out / 'training.png', 'DPO', measures)}")
    except MissingDependencyError as error:
        print(f"(no picture: {error})")


def run(arguments: argparse.Namespace) -> int:
    """Learn both answers, then prefer one."""
    base, tokenizer, tuned_in, _ = load_assistant(arguments.base, arguments.device)
    model = as_gpt(base)
    model.set_dropout(0.0)
    template = TEMPLATES[arguments.template] if arguments.template else tuned_in
    template = template or TEMPLATES["chat"]
    train, test = polite_preferences(arguments.seed)
    manual_seed(arguments.seed)
    longest = model.config.context_length
    report = partial(print, flush=True)

    print(f"Learning both answers of {len(train)} prompts ({arguments.base}).")
    parts = [
        encode_instructions(both_answers(p), template, tokenizer, longest) for p in (train, test)
    ]
    scale = rate_for_width(1.0, model.config.n_embd)
    both = {"seed": arguments.seed, "graph": arguments.graph}
    first = FitSettings(arguments.first_epochs, 16, 1e-3 * scale, **both)
    fit_instructions(model, parts[0], parts[1], first, report=report)

    print(f"\nDPO against this model as the reference, beta {arguments.beta}.")
    if arguments.trainable == "lora":
        apply_lora(model, targets=("attention.qkv", "attention.projection", "expand", "project"))
    pairs = [
        with_reference(encode_preferences(p, template, tokenizer, longest), model)
        for p in (train, test)
    ]
    rate = arguments.learning_rate or LEARNING_RATES[arguments.trainable] * scale
    settings = FitSettings(arguments.epochs, 8, rate, evaluations=2, **both)
    history = fit_preferences(model, pairs[0], pairs[1], settings, arguments.beta, report)
    remove_lora(model)

    out = save_assistant(arguments.out, model, tokenizer, template)
    draw(history, out)
    asked = [Instruction(p.instruction, "", p.chosen) for p in test[:5]]
    print("\nGreedy answers about a person who does not occur in training:")
    for r in respond(model, tokenizer, template, asked, min(32, longest // 2)):
        print(f"  {r.instruction}  ->  {r.answer}")
    print(f"Written to {out}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and run; an error becomes one sentence and status 2."""
    return run_program(run, build_parser(), argv)
