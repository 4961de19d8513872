"""``tinygrad-llm plot RUN...``: loss, learning rate, gradient norm, speed of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.errors import DataError
from tinygrad_llm.hints import command
from tinygrad_llm.terminal import say
from tinygrad_llm.training.report.histograms import draw_histograms, has_histograms
from tinygrad_llm.training.report.log import LOG_NAME
from tinygrad_llm.training.report.plot import draw_runs


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the runs into one picture."""
    parser = command_parser(
        "plot", "Draw loss, learning rate, gradient norm and speed of runs as one picture."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the picture: .png, .svg or .pdf (default: runs.png beside the first run)",
    )
    arguments = parse(parser, argv)
    runs = training_runs(arguments.runs)
    target = arguments.out or runs[0].parent / "runs.png"
    say(f"Wrote {draw_runs(runs, target)}")
    for run in runs:
        if has_histograms(run):
            say(f"Wrote {draw_histograms(run, run / 'histograms.png')}")
    return 0


def training_runs(given: Sequence[Path]) -> list[Path]:
    """The folders with a run's log, each once; says which others were passed over.

    Raises:
        DataError: none is left.
    """
    once = list({path.resolve(): path for path in given}.values())
    runs = [path for path in once if has_log(path)]
    others = [str(path) for path in once if path not in runs and path.suffix != ".png"]
    if not runs:
        raise DataError(
            f"{', '.join(map(str, once))}: no log of a training run there. Train first: "
            f"{command('train')}"
        )
    if others:
        say(f"Passed over, no log of a training run: {', '.join(others)}", file=sys.stderr)
    return runs


def has_log(folder: Path) -> bool:
    """Whether a training run has logged something in a folder."""
    log = folder / LOG_NAME
    return log.is_file() and log.stat().st_size > 0
