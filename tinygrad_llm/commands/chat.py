"""Talk with a tuned model in the terminal.

    tinygrad-llm chat                                  # runs/assistant
    tinygrad-llm chat FOLDER --system "Answer in one word."
    echo "What is 2 + 2?" | tinygrad-llm chat          # without a terminal

Within the conversation:

    /reset          forget the conversation     /system TEXT    set the system prompt
    /save FILE      write the conversation      /temperature X  0: always the likeliest token
    /help           this list                   /quit           (or Ctrl-D) end

Ctrl-C interrupts an answer. When the conversation outgrows the model's context, the oldest
questions are dropped, with a notice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from tinygrad_llm import hints
from tinygrad_llm.commands.flags import Parser
from tinygrad_llm.commands.program import add_device, command_parser, run_program
from tinygrad_llm.data.templates import CHAT, TEMPLATES
from tinygrad_llm.errors import TinygradLLMError
from tinygrad_llm.finetuning.adapter import load_adapter
from tinygrad_llm.finetuning.conversation import Conversation, load_assistant
from tinygrad_llm.generation.sampling import Sampling

COMMANDS = "/reset  /save FILE  /system TEXT  /temperature X  /help  /quit"


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("chat", __doc__)
    add = parser.add_argument
    add("folder", nargs="?", default="runs/assistant", help="model (default: runs/assistant)")
    add("--adapter", metavar="FILE", help="a LoRA adapter for the model in FOLDER")
    add("--template", choices=sorted(TEMPLATES), help="prompt format (default: the model's own)")
    add("--system", metavar="TEXT", help="system prompt (default: the template's own)")
    add(
        "--history",
        type=int,
        metavar="N",
        help="earlier questions the model sees; 0 suits one "
        "that was tuned on single questions (default: as many as fit)",
    )
    add("--max-new-tokens", type=int, default=64, help="longest answer, in tokens (default: 64)")
    add("--temperature", type=float, default=0.7, help="0: the likeliest token (default: 0.7)")
    add(
        "--top-k",
        type=int,
        default=40,
        help="choose among this many most probable tokens (default: 40)",
    )
    add("--seed", type=int, default=0, help="seed of the random choices (default: 0)")
    add_device(parser)
    return parser


def open_conversation(arguments: argparse.Namespace) -> Conversation:
    """Load the model; says so when it was never tuned for conversations."""
    model, tokenizer, tuned_in = load_assistant(arguments.folder, arguments.device)
    if arguments.adapter:
        load_adapter(model, arguments.adapter)
    elif tuned_in is None:
        print(
            "This model was never tuned to answer; expect it to run on. To tune one:\n"
            f"  {hints.command('finetune', 'instructions')}"
        )
    template = TEMPLATES[arguments.template] if arguments.template else tuned_in or CHAT
    return Conversation(
        model,
        tokenizer,
        template,
        arguments.system,
        arguments.max_new_tokens,
        Sampling(arguments.temperature, top_k=arguments.top_k),
        arguments.seed,
        arguments.history,
    )


def answer(conversation: Conversation, question: str) -> None:
    """Print the answer while it is made, then what should be known about it."""
    print("model> ", end="", flush=True)
    pieces = conversation.ask(question)
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        print(" (interrupted)", end="")
    print()
    if not conversation.finished:
        print("(cut off: --max-new-tokens allows longer answers)")
    if conversation.forgotten:
        print(
            f"(context full: the oldest {conversation.forgotten} of "
            f"{len(conversation.turns) // 2} questions were left out)"
        )
    if conversation.cut:
        print(f"(the question is too long: its first {conversation.cut} tokens were not read)")


def command(conversation: Conversation, line: str) -> bool:
    """Obey a line that begins with "/"; False ends the conversation.

    Raises:
        TinygradLLMError: a file that cannot be written, a temperature out of range.
    """
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name in ("/quit", "/exit"):
        return False
    if name == "/reset":
        conversation.reset()
        print("(forgotten)")
    elif name == "/save" and rest:
        print(f"(written to {conversation.save(rest)})")
    elif name == "/system":
        conversation.system = rest or None
        print(f"(system prompt: {rest!r})" if rest else "(system prompt: the template's own)")
    elif name == "/temperature" and _is_number(rest):
        conversation.sampling = replace(conversation.sampling, temperature=float(rest))
        print(f"(temperature {rest})")
    else:
        print(COMMANDS if name == "/help" else f"Not understood: {line!r}. {COMMANDS}")
    return True


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def talk(conversation: Conversation) -> None:
    """Read questions until the end of the input."""
    while True:
        try:
            line = input("you> ").strip()
            if not sys.stdin.isatty():
                print(line)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(/quit or Ctrl-D ends)")
            continue
        try:
            if line.startswith("/"):
                if not command(conversation, line):
                    return
            elif line:
                answer(conversation, line)
        except TinygradLLMError as error:
            print(f"({error})")


def run(arguments: argparse.Namespace) -> int:
    """Open the model and talk."""
    conversation = open_conversation(arguments)
    config = conversation.model.config
    print(
        f"{conversation.model.num_parameters():,} parameters, context of "
        f"{config.context_length} tokens, template {conversation.template.name}. "
        f"{COMMANDS}"
    )
    talk(conversation)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and talk; an error becomes one sentence and status 2."""
    return run_program(run, build_parser(), argv)
