"""``tinygrad-llm finetune TASK``: teach a pretrained GPT something more."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinygrad_llm.commands.program import Commands, run_command

TASKS: Commands = {
    "spam": ("tinygrad_llm.commands.finetune.spam", "turn it into a spam filter"),
    "instructions": ("tinygrad_llm.commands.finetune.instructions", "to answer instructions"),
    "preferences": ("tinygrad_llm.commands.finetune.preferences", "to prefer better answers"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a task; the exit status is that of its program."""
    words = sys.argv[1:] if argv is None else list(argv)
    return run_command("tinygrad-llm finetune", TASKS, words)
