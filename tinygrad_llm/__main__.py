"""``python -m tinygrad_llm COMMAND``: the small tools beside the examples."""

from __future__ import annotations

import importlib
import sys

from tinygrad_llm.commands.program import in_one_sentence
from tinygrad_llm.errors import did_you_mean

# command -> (module with main(argv) -> exit status, what it does)
COMMANDS = {
    "env": ("tinygrad_llm.commands.env", "versions, hardware, missing features: for a bug report"),
    "explain": ("tinygrad_llm.commands.explain", "formula, derivation, source and check of an op"),
    "gradcheck": ("tinygrad_llm.commands.gradcheck", "check every gradient by finite differences"),
    "plot": ("tinygrad_llm.commands.plot", "loss, learning rate, speed of runs as a picture"),
    "tokenize": ("tinygrad_llm.commands.tokenize", "text files to token shards"),
}


def usage() -> str:
    """The list of commands."""
    rows = [f"  {name:<12}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m tinygrad_llm COMMAND [...]", "", *rows, "", "Each takes --help."]
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 on success, 1 when it found something wrong, 2 when it was asked wrongly."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        hint = did_you_mean(argv[0], COMMANDS)
        print(f"There is no command {argv[0]!r}.{hint}\n\n{usage()}", file=sys.stderr)
        return 2
    command = importlib.import_module(COMMANDS[argv[0]][0])
    try:
        return in_one_sentence("error", lambda: int(command.main(argv[1:]) or 0))
    except BrokenPipeError:  # `... | head` closed the other end
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
