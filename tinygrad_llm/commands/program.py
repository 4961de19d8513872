"""What all commands share: the way to them, flags, and errors that are one sentence."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from tinygrad_llm.backend import module_for
from tinygrad_llm.backend.precision import RUN_TYPE_MEANS, RUN_TYPES, computing_in, how_computed
from tinygrad_llm.commands.flags import Parser
from tinygrad_llm.commands.own_code import add_import
from tinygrad_llm.control_characters import one_line, readable
from tinygrad_llm.errors import ConfigError, TinygradLLMError, did_you_mean, in_words
from tinygrad_llm.hints import as_typed_here
from tinygrad_llm.starting import usual_interrupt
from tinygrad_llm.terminal import say, writing

# command -> (module with main(argv) -> exit status, what it does)
Commands = Mapping[str, tuple[str, str]]


def usage(program: str, commands: Commands) -> str:
    """The list of commands."""
    rows = [f"  {name:<14}{what}" for name, (_, what) in commands.items()]
    return "\n".join([f"usage: {program} COMMAND [...]", "", *rows, "", "Each takes --help."])


def run_command(program: str, commands: Commands, argv: Sequence[str]) -> int:
    """Run the command that the first word names, with the others; returns the exit status."""
    name, *words = without_comment(argv) or [""]

    def whole() -> int:
        usual_interrupt()
        status = _run_named(program, commands, name, words)
        with writing():
            sys.stdout.flush()
        return status

    _prepare_streams()
    try:
        return in_one_sentence(f"{program} {name}".rstrip(), whole)
    except BrokenPipeError:  # `... | head` closed the other end
        return 141  # as a shell expects it of SIGPIPE
    finally:
        _drop_unwritten()


def _run_named(program: str, commands: Commands, name: str, words: Sequence[str]) -> int:
    if name in ("", "-h", "--help"):
        say(usage(program, commands))
        return 0 if name else 2
    if name in commands:
        return int(importlib.import_module(commands[name][0]).main(words) or 0)
    hint = did_you_mean(name, commands)
    listed = usage(program, commands)
    say(f"{program}: there is no command {name!r}.{hint}\n\n{listed}", file=sys.stderr)
    return 2


def _prepare_streams() -> None:
    """A letter that the output cannot show is no error, nor a closed stream (``>&-``, ``<&-``)."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stderr or sys.stdout
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _drop_unwritten() -> None:
    """What an output did not take goes nowhere: Python would try it again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def without_comment(words: Sequence[str]) -> list[str]:
    """The words before ``# what this does``, as lines of a README end.

    On its command line zsh, unlike bash, hands a comment on as words. A ``#`` that is the value of
    a flag, or the last word, is none.
    """
    for place, word in enumerate(words[:-1]):
        if word == "#" and not words[max(0, place - 1)].startswith("--"):
            return list(words[:place])
    return list(words)


def command_parser(name: str, description: str | None) -> Parser:
    """The parser of ``tinygrad-llm NAME``; lines of the description stay lines."""
    parser = Parser(f"tinygrad-llm {name}", as_typed_here(description or ""))
    add_import(parser)
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``; `parse` refuses one that is not there."""
    parser.add_argument("--device", default="cpu", help='"cpu", "cuda" or "cuda:N" (default: cpu)')


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``, as ``train`` has it; None where it is not given."""
    text = f"{RUN_TYPE_MEANS} (default: as saved; 16 bits are opened as float32)"
    parser.add_argument("--dtype", choices=RUN_TYPES, help=text)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--dtype`` and ``--no-graph`` (``arguments.graph``), for training."""
    add_device(parser)
    add_dtype(parser)
    text = "on a GPU, run each step op by op: record no CUDA graphs"
    parser.add_argument("--no-graph", dest="graph", action="store_false", help=text)


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags of a program.

    Raises:
        ConfigError: a flag is unknown, has a wrong value, or excludes another that is there.
        DeviceError: ``--device`` names one that is unknown or absent. Said here, before a program
            reads, trains or writes anything.
    """
    arguments = parser.parse(sys.argv[1:] if argv is None else argv)
    module_for(getattr(arguments, "device", "cpu"))
    return arguments


def add_yes(parser: Parser) -> None:
    """Add ``--yes``, for `ask_before_deleting`."""
    parser.add_argument("--yes", action="store_true", help="delete without asking (--overwrite)")


def ask_before_deleting(sentence: str, yes: bool = False) -> None:
    """Say what is about to be deleted, and on a terminal ask.

    Args:
        sentence: what would be deleted.
        yes: do not ask.

    Raises:
        ConfigError: the answer was no; nothing was deleted.
    """
    if yes or not (sys.stdin.isatty() and sys.stdout.isatty()):
        say(f"{sentence} {'' if yes else 'There is no terminal to ask at: going ahead.'}".strip())
        return
    try:
        answer = input(f"{sentence} Delete it? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was deleted. Choose another folder with --out, or --resume.")


def run_program(
    run: Callable[[argparse.Namespace], int], parser: Parser, argv: Sequence[str] | None
) -> int:
    """Parse the flags and run, in one sentence where that fails; returns the exit status."""

    def whole() -> int:
        arguments = parse(parser, argv)
        dtype, device = (getattr(arguments, name, None) for name in ("dtype", "device"))
        with computing_as_said(dtype, device or "cpu", sys.stderr):
            return run(arguments)

    return in_one_sentence(parser.prog, whole)


@contextmanager
def computing_as_said(dtype: str | None, device: str, file: TextIO | None = None) -> Iterator[None]:
    """A scope that computes in the wanted type; bfloat16 on a CPU is explained in a line.

    Args:
        dtype: of ``--dtype``, or None.
        device: of ``--device``.
        file: where the line is written; None for standard output.
    """
    sentence = how_computed(dtype, device)
    if sentence:
        say(sentence, file=file)
    with computing_in(dtype, device):
        yield


@contextmanager
def warnings_in_one_sentence(name: str) -> Iterator[None]:
    """Show a `UserWarning` without the line of code that gave it, which says nothing to a user.

    NumPy's warnings of overflows are not shown: each loss and score is looked at where it is used.
    ``np.errstate`` would not reach other threads.
    """
    usual = warnings.formatwarning

    def sentence(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if issubclass(category, UserWarning):
            return f"{name}: {readable(one_line(message))}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = sentence
    try:
        with warnings.catch_warnings():
            sign = "overflow|invalid value|divide by zero"
            warnings.filterwarnings("ignore", sign, RuntimeWarning)
            yield
    finally:
        warnings.formatwarning = usual


def in_one_sentence(name: str, task: Callable[[], int]) -> int:
    """Run a task: an error becomes a sentence and status 2, Ctrl-C status 130.

    Of the errors that are not this package's own those of the system are told, too, such as a full
    disk: where no one has said it better, they name the file and what the system said.

    Raises:
        BrokenPipeError: nobody reads what is printed.
    """
    try:
        with warnings_in_one_sentence(name):
            return task()
    except BrokenPipeError:
        raise
    except (TinygradLLMError, OSError, MemoryError) as error:
        said = str(in_words(error)).removeprefix(f"{name.split()[-1]}: ")  # the command's own name
        say(f"{name}: {said}", file=sys.stderr)
        _drop_unwritten()
        return 2
    except KeyboardInterrupt as stop:
        say(f"\nStopped. {stop}".rstrip(), file=sys.stderr)
        return 130
