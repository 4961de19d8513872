"""What the fine-tuning programs share: their folder, ``--resume``, and what Ctrl-C leaves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tinygrad_llm.commands.flags import Parser
from tinygrad_llm.commands.program import (
    add_yes,
    ask_before_deleting,
    computing_as_said,
    in_one_sentence,
    parse,
)
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.finetuning.tuning_folder import TuningFolder, read_begun, saved_stages
from tinygrad_llm.hints import command
from tinygrad_llm.terminal import say
from tinygrad_llm.training.stopping import EXIT_CODES

# Flags that say what to do; all others are settings.
_WHAT_TO_DO = ("out", "resume", "overwrite", "yes", "predict", "score")
ASSISTANT_FILES = ("config.json", "model.safetensors", "assistant.json", "responses.json")


def add_run(parser: Parser, out: str) -> None:
    """Add ``--out``, ``--resume`` and ``--overwrite``."""
    add = parser.add_argument_group("where the run is kept").add_argument
    add("--out", metavar="FOLDER", default=out, help=f"default: {out}")
    add("--resume", action="store_true", help="go on from the newest intact checkpoint in --out")
    text = "delete an earlier run in --out as soon as this one can begin; asks on a terminal"
    add("--overwrite", action="store_true", help=text)
    add_yes(parser)
    parser.exclude(
        "--resume", ["--overwrite"], "the one goes on with the run in --out, the other deletes it"
    )


def parse_resumed(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags; with ``--resume`` those not given are what they were.

    Raises:
        ConfigError, DeviceError: as `parse`.
        CheckpointError: the description of the run in --out is damaged.
    """
    arguments = parse(parser, argv)
    begun = read_begun(Path(arguments.out)) if arguments.resume else None
    if begun is None:
        return arguments
    parser.set_defaults(**begun["settings"])
    return parse(parser, argv)


def open_folder(arguments: argparse.Namespace, results: Sequence[str]) -> TuningFolder:
    """The folder of ``--out``, locked; see `TuningFolder`."""
    settings = {k: v for k, v in vars(arguments).items() if k not in _WHAT_TO_DO}
    base, out = Path(arguments.base).absolute(), Path(arguments.out).absolute()
    if arguments.overwrite and out in (base, *base.parents):
        raise ConfigError(
            f"--overwrite: the model to start from ({arguments.base}) lies in --out and would be "
            "deleted. Choose another folder with --out."
        )
    return TuningFolder(
        arguments.out,
        settings,
        results,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        before_deleting=partial(ask_before_deleting, yes=arguments.yes),
    )


def tune_in_folder(
    arguments: argparse.Namespace,
    results: Sequence[str],
    tune: Callable[[TuningFolder, argparse.Namespace], None],
) -> Path:
    """Tune in the folder of ``--out``, if that is not done yet; returns the folder's path."""
    with open_folder(arguments, results) as folder:
        if folder.finished:
            say(f"{one_line(folder.path)}: this fine-tuning is finished.")
        else:
            tune(folder, arguments)
    return folder.path


def computed_as(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of a `FitSettings` in every task: seed, graph and type."""
    return {name: getattr(arguments, name) for name in ("seed", "graph", "dtype")}


def run_tuning(
    run: Callable[[argparse.Namespace], int], parser: Parser, argv: Sequence[str] | None
) -> int:
    """Parse the flags and run; returns the exit status. Ctrl-C says how to go on."""

    def whole() -> int:
        arguments = parse_resumed(parser, argv)
        try:
            with computing_as_said(arguments.dtype, arguments.device):
                return run(arguments)
        except KeyboardInterrupt as stop:
            say(f"\n{how_to_go_on(parser.prog, arguments, str(stop))}", file=sys.stderr)
            return EXIT_CODES.get(str(stop), EXIT_CODES["Ctrl-C"])

    return in_one_sentence(parser.prog, whole)


def how_to_go_on(program: str, arguments: argparse.Namespace, reason: str) -> str:
    """What is saved of a run that was interrupted, and the command that goes on with it."""
    stopped = f"Stopped by {reason}." if reason else "Stopped at once."
    out = Path(arguments.out)
    if getattr(arguments, "predict", None) or getattr(arguments, "score", None):
        return stopped
    if read_begun(out) is None:
        return f"{stopped} Nothing was trained yet, and nothing was written."
    words = program.split()[1:]
    saved = ", ".join(saved_stages(out)) or "nothing"
    return (
        f"{stopped} Saved in {one_line(out / 'checkpoints')}: {saved}.\n"
        f"Go on with:\n  {command(*words, '--out', out, '--resume')}"
    )
