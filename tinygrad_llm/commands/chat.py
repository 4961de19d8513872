"""Talk with a tuned model in the terminal.

    tinygrad-llm chat                                  # runs/assistant
    tinygrad-llm chat FOLDER --system "Answer in one word."
    echo "What is 2 + 2?" | tinygrad-llm chat          # without a terminal

Within the conversation, /help lists the commands. Ctrl-C interrupts an answer, Ctrl-D ends.
"""

from __future__ import annotations

import argparse
import io
import math
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinygrad_llm import hints
from tinygrad_llm.commands.flags import Parser, count, seed, whole, within
from tinygrad_llm.commands.program import add_device, add_dtype, command_parser, run_program
from tinygrad_llm.data.templates import CHAT, TEMPLATES
from tinygrad_llm.errors import CheckpointError, TinygradLLMError, did_you_mean
from tinygrad_llm.finetuning.adapter import load_adapter
from tinygrad_llm.finetuning.conversation import ASSISTANT_NAME, Conversation, load_assistant
from tinygrad_llm.finetuning.tuning_folder import read_begun
from tinygrad_llm.generation.next_scores import context_of
from tinygrad_llm.generation.open_checkpoint import newest_run
from tinygrad_llm.generation.sampling import Sampling
from tinygrad_llm.pretrained import SIZES
from tinygrad_llm.terminal import fitting, print_as_it_comes, say, styled

COMMANDS = {
    "/reset": "forget the conversation",
    "/save FILE": "write the conversation as JSON",
    "/system TEXT": "set the system prompt; without TEXT, the template's own",
    "/temperature X": "0: always the most probable token",
    "/help": "this list",
    "/quit": "end; so does Ctrl-D",
}
LONGEST_ANSWER = 64  # tokens


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("chat", __doc__)
    add = parser.add_argument
    add("folder", nargs="?", default="runs/assistant", help="model (default: runs/assistant)")
    add("--adapter", metavar="FILE", help="a LoRA adapter for the model in FOLDER")
    add("--template", choices=sorted(TEMPLATES), help="prompt format (default: the model's own)")
    add("--system", metavar="TEXT", help="system prompt (default: the template's own)")
    history = "earlier questions the model sees (default: as in its tuning, or as many as fit)"
    add("--history", type=whole(0), metavar="N", help=history)
    longest = f"longest answer, in tokens (default: {LONGEST_ANSWER}, or half the context)"
    add("--max-new-tokens", type=count, metavar="N", help=longest)
    warmth = "0: the most probable token (default: 0.7)"
    add("--temperature", type=within(0), default=0.7, metavar="X", help=warmth)
    top_k = "choose among this many most probable tokens (default: 40)"
    add("--top-k", type=count, default=40, help=top_k)
    same = "the same seed and questions give the same answers (default: another each time)"
    add("--seed", type=seed, help=same)
    add_device(parser)
    add_dtype(parser)
    return parser


def open_conversation(arguments: argparse.Namespace) -> Conversation:
    """Load the model; says what it was tuned for.

    Raises:
        CheckpointError: there is no such model; the message says what to run first.
    """
    folder = arguments.folder
    if not Path(folder).exists() and folder not in SIZES:
        raise CheckpointError(*_what_to_run_first(folder))
    _refuse_unfinished(Path(folder))
    model, tokenizer, tuned_in, history = load_assistant(folder, arguments.device, arguments.dtype)
    if arguments.adapter:
        load_adapter(model, arguments.adapter)
    elif tuned_in is None:
        tune = hints.command("finetune", "instructions", "--base", folder)
        _note(f"{folder} was never tuned to answer: it continues the text. To tune it: {tune}")
    if arguments.history is not None:
        history = arguments.history
    elif history == 0:
        _note("Each question stands alone, as in the model's tuning; --history 3 shows it three.")
    longest = arguments.max_new_tokens
    if longest is None:
        longest = min(LONGEST_ANSWER, context_of(model) // 2)
    return Conversation(
        model,
        tokenizer,
        TEMPLATES[arguments.template] if arguments.template else tuned_in or CHAT,
        arguments.system,
        longest,
        Sampling(arguments.temperature, top_k=arguments.top_k),
        secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed,
        history,
    )


def _what_to_run_first(folder: str) -> list[str]:
    said = (
        f"{folder}: there is no tuned model. Make one: {hints.command('finetune', 'instructions')}"
    )
    try:
        run = newest_run(Path("runs"))
    except CheckpointError:
        return [said]
    return [said, f"Or talk to an untuned one: {hints.command('chat', run)}"]


def _refuse_unfinished(folder: Path) -> None:
    """Say how to go on with a fine-tuning that was stopped before it wrote its model."""
    begun = read_begun(folder)
    if begun is not None and not (begun["finished"] or (folder / ASSISTANT_NAME).is_file()):
        raise CheckpointError(
            f"{folder}: its fine-tuning was stopped before it wrote a model. Go on with it first: "
            "the command that began it, with --resume."
        )


def _say(text: str) -> None:
    say(fitting(text, sys.stdout))


def _note(text: str) -> None:
    say(fitting(f"({text})", sys.stdout), "dim")


def answer(conversation: Conversation, question: str) -> None:
    """Print the answer while it is made, then what should be known about it."""
    was_full = conversation.forgotten > 0
    say("model> ", "cyan", end="", flush=True)
    pieces = conversation.ask(question)
    try:
        print_as_it_comes(pieces, column=len("model> "))
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        say(" (interrupted)")
        return
    say()
    if not conversation.finished:
        _note("cut off: --max-new-tokens allows longer answers")
    if conversation.forgotten and not was_full:
        _note("context full: from here on the oldest questions are left out")
    if conversation.cut:
        _note(f"the question is too long: its first {conversation.cut} tokens were not read")


def obey(conversation: Conversation, line: str) -> bool:
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
        _note("forgotten")
    elif name == "/save" and rest:
        _note(f"written to {conversation.save(rest)}")
    elif name == "/system":
        conversation.system = rest or None
        _note(f"system prompt: {rest!r}" if rest else "system prompt: the template's own")
    elif name == "/temperature" and _is_number(rest):
        conversation.sampling = replace(conversation.sampling, temperature=float(rest))
        _note(f"temperature {rest}")
    elif name == "/help":
        _say("\n".join(f"  {form:<16}{what}" for form, what in COMMANDS.items()))
    else:
        _say(_not_understood(line, name))
    return True


def _not_understood(line: str, name: str) -> str:
    forms = {form.split()[0]: form for form in COMMANDS}
    if name in forms:
        return f"Not understood: {line!r}. Write {forms[name]}."
    return f"Not understood: {line!r}.{did_you_mean(name, forms)} /help lists all commands."


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False


def talk(conversation: Conversation) -> None:
    """Read questions until the end of the input."""
    typed = sys.stdin.isatty()
    while True:
        try:
            line = input(_prompt("you> ")).strip()
            if not typed:
                say(line)
        except EOFError:
            say()
            return
        except KeyboardInterrupt:
            if not typed:
                raise
            say("\n(/quit or Ctrl-D ends)")
            continue
        try:
            if line.startswith("/"):
                if not obey(conversation, line):
                    return
            elif line:
                answer(conversation, line)
        except TinygradLLMError as error:
            _note(str(error))


def _prompt(text: str) -> str:
    """The prompt in its colour; readline is told which of its letters take no room."""
    before, _, after = styled(text, "green").partition(text)
    return (
        f"\x01{before}\x02{text}\x01{after}\x02" if before and "readline" in sys.modules else text
    )


def edit_lines() -> None:
    """Give `input` the arrow keys, with the earlier questions behind the upper one."""
    try:
        import readline  # noqa: F401  (its import is its effect)
    except ImportError:  # Windows
        pass


def run(arguments: argparse.Namespace) -> int:
    """Open the model and talk."""
    conversation = open_conversation(arguments)
    model, template = conversation.model, conversation.template.name
    _say(
        f"{model.num_parameters():,} parameters, context of {context_of(model)} tokens, "
        f"template {template}, seed {conversation.seed}. /help lists the commands."
    )
    edit_lines()
    talk(conversation)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and talk; an error becomes one sentence and status 2."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):  # bytes that are no text end no conversation
            stream.reconfigure(errors="replace")
    return run_program(run, build_parser(), argv)
