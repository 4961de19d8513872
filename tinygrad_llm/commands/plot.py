"""``tinygrad-llm plot RUN...``: loss, learning rate, gradient norm, speed of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.training.report.histograms import draw_histograms, has_histograms
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
        default=Path("runs.png"),
        metavar="FILE",
        help="the picture: .png, .svg or .pdf (default: runs.png)",
    )
    arguments = parse(parser, argv)
    print(f"Wrote {draw_runs(arguments.runs, arguments.out)}")
    for run in arguments.runs:
        if has_histograms(run):
            print(f"Wrote {draw_histograms(run, run / 'histograms.png')}")
    return 0
