"""Solve a task by examples in the prompt, without any training (few-shot prompting).

    tinygrad-llm few-shot gpt2
    tinygrad-llm few-shot gpt2 --question "The soup was cold and the waiter rude."
    tinygrad-llm few-shot gpt2 --shots 0        # without examples, to compare

The model sees solved questions and then an open one; each possible answer is scored by the
probability of its tokens. A small model trained on one manual knows nothing about opinions: expect
little of it. GPT-2 with 124M parameters gets most of such questions right, the larger ones more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tinygrad_llm.commands.flags import Parser, whole
from tinygrad_llm.commands.program import add_device, add_dtype, command_parser, run_program
from tinygrad_llm.generation.open_checkpoint import open_checkpoint
from tinygrad_llm.generation.scoring import choose_answer, few_shot_prompt
from tinygrad_llm.terminal import say

SOLVED = (
    ("What a lovely day we had at the lake!", "good"),
    ("The train was late and nobody apologized.", "bad"),
    ("I would read this book again.", "good"),
    ("The screen broke after a week.", "bad"),
)
OPEN = (
    ("My sister loved the cake.", "good"),
    ("We waited an hour and the food was burnt.", "bad"),
    ("The best concert of the year.", "good"),
    ("This phone is a waste of money.", "bad"),
)
ANSWERS = (" good", " bad")
FORM = "Review: {question}\nOpinion:{answer}\n\n"


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("few-shot", __doc__)
    parser.add_argument("model", help="a folder, or a name such as gpt2")
    parser.add_argument("--question", help="a text to judge, instead of the built-in ones")
    parser.add_argument(
        "--shots", type=whole(0, 4), default=4, help="examples shown, 0 to 4 (default: 4)"
    )
    add_device(parser)
    add_dtype(parser)
    return parser


def ask(options: argparse.Namespace) -> int:
    """Print the prompt of the first question, and the answers to all."""
    model, tokenizer = open_checkpoint(options.model, options.device, options.dtype)
    questions = [(options.question, None)] if options.question else OPEN
    right = 0
    for number, (question, expected) in enumerate(questions):
        prompt = few_shot_prompt(SOLVED[: options.shots], question, form=FORM)
        if number == 0:
            say(f"{prompt} ...\n")
        ranked = choose_answer(model, tokenizer, prompt, ANSWERS)
        best = ranked[0][0].strip()
        right += best == expected
        scores = ", ".join(f"{answer.strip()} {score:.2f}" for answer, score in ranked)
        say(f"{question!r}: {best}   (log-probabilities: {scores})")
    if not options.question:
        say(f"\n{right} of {len(OPEN)} as a person would answer.")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; an error becomes one sentence and status 2."""
    return run_program(ask, build_parser(), argv)
