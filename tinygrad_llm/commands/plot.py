"""``tinygrad-llm plot RUN...``: loss, learning rate, gradient norm, speed of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.control_characters import one_line
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
        help="the picture: .png, .svg or .pdf (default: runs.png beside the first run); histograms "
        "are drawn beside it, or else in their run's folder",
    )
    arguments = parse(parser, argv)
    runs = training_runs(arguments.runs)
    target = arguments.out or runs[0].parent / "runs.png"
    say(f"Wrote {one_line(draw_runs(runs, target))}")
    for number, run in enumerate(runs, 1):
        if has_histograms(run):
            out = arguments.out and histograms_beside(arguments.out, number if runs[1:] else None)
            picture = out or run / "histograms.png"
            say(f"Wrote {one_line(draw_histograms(run, picture))}")
    return 0


def histograms_beside(out: Path, number: int | None) -> Path:
    """Where a run's histograms are drawn with ``--out``: beside that file, not in the run's folder.

    That may be read-only, and nothing is written where nobody asked for it.

    Args:
        out: the file of ``--out``.
        number: of the run, where there are several.
    """
    return out.with_name(f"{out.stem}-histograms{number or ''}{out.suffix}")


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
        say(
            f"Passed over, no log of a training run: {one_line(', '.join(others))}", file=sys.stderr
        )
    return runs


def has_log(folder: Path) -> bool:
    """Whether a training run has logged something in a folder."""
    log = folder / LOG_NAME
    return log.is_file() and log.stat().st_size > 0
