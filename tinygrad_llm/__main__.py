"""``tinygrad-llm COMMAND``, or ``python -m tinygrad_llm COMMAND``."""

from __future__ import annotations

import sys

from tinygrad_llm.commands.program import Commands, run_command

COMMANDS: Commands = {
    "train": ("tinygrad_llm.commands.train", "train a GPT on text"),
    "generate": ("tinygrad_llm.commands.generate", "let a model write"),
    "chat": ("tinygrad_llm.commands.chat", "talk with a tuned model"),
    "few-shot": ("tinygrad_llm.commands.few_shot", "solve a task by examples in the prompt"),
    "finetune": (
        "tinygrad_llm.commands.finetune",
        "spam, instructions, preferences: teach it more",
    ),
    "study": ("tinygrad_llm.commands.study", "a training step as a web page, op by op"),
    "explain": ("tinygrad_llm.commands.explain", "formula, derivation, source and check of an op"),
    "gradcheck": ("tinygrad_llm.commands.gradcheck", "check every gradient by finite differences"),
    "plot": ("tinygrad_llm.commands.plot", "loss, learning rate, speed of runs as a picture"),
    "tokenize": ("tinygrad_llm.commands.tokenize", "text files to token shards"),
    "env": ("tinygrad_llm.commands.env", "versions, hardware, missing features: for a bug report"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 on success, 1 when it found something wrong, 2 when it was asked wrongly."""
    return run_command("tinygrad-llm", COMMANDS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
