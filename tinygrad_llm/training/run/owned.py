"""Which files in a folder are a run's own. All others are neither removed nor written over.

A folder is a run's if it holds a checkpoint, a ``config.toml`` that begins with `MARK`, or the
``.lock`` that every run leaves.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tinygrad_llm.backend.files import UNFINISHED, remove
from tinygrad_llm.training.report.log import LOG_NAME, TIMING_NAME
from tinygrad_llm.training.run.checkpoint import STATE_NAME

CHECKPOINTS, LOCK, SETTINGS = "checkpoints", ".lock", "config.toml"
EDITED = "config.edited.toml"  # settings that somebody has changed by hand
MARK = "# The settings of a training run of tinygrad_llm; --config reads them.\n"
LOGS = (LOG_NAME, TIMING_NAME, "histograms.jsonl")
_FILES = ("last", "best", "loss.png", SETTINGS, *LOGS)
STAGE_NAMES = frozenset((LOCK, CHECKPOINTS, "last", "best"))  # in a folder of checkpoints alone
_STEP = re.compile(r"step-(\d{8,})")
_OWN_CHECKPOINT = re.compile(rf"(damaged-)?{_STEP.pattern}")
# What a process that was killed leaves: of a link, a checkpoint, any file that appears whole.
_LEFTOVER = re.compile(
    rf"\.({'|'.join(map(re.escape, _FILES))}|{_STEP.pattern})\.[\w.-]*tmp|{UNFINISHED}"
)
_REPLACED = re.compile(rf"\.({_STEP.pattern})\.\d+\.old\.tmp")


def step_of(name: str) -> int | None:
    """The step in the name of a checkpoint's folder; None for any other name."""
    found = _STEP.fullmatch(name)
    return int(found[1]) if found else None


def is_run(folder: Path) -> bool:
    """Whether a run has begun in the folder."""
    if (folder / LOCK).is_file():
        return True
    if any((folder / CHECKPOINTS).glob(f"step-*/{STATE_NAME}")):
        return True
    try:
        with open(folder / SETTINGS, "rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def run_names(folder: Path) -> list[str]:
    """Names in a folder that a run would write to; not counted are checkpoints where none is."""
    there = [name for name in _FILES if os.path.lexists(folder / name)]
    checkpoints = folder / CHECKPOINTS
    if os.path.lexists(checkpoints) and not (checkpoints.is_dir() and not os.listdir(checkpoints)):
        there.append(CHECKPOINTS)
    return there


def free_name(path: Path) -> Path:
    """The path, or where something stands there, one with a number: ``config.edited-2.toml``."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(p for p in itertools.chain([path], others) if not os.path.lexists(p))


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed left behind under temporary names.

    A checkpoint that was to be replaced, and was not, gets its name back. What cannot be removed
    stays: nothing depends on it.
    """
    for place in (folder, folder / CHECKPOINTS):
        with suppress(OSError):
            for path in _matching(place, _REPLACED):
                target = path.with_name(path.name[1:].split(".")[0])
                if not target.exists():
                    os.rename(path, target)
        with suppress(OSError):
            for path in _matching(place, _LEFTOVER):
                remove(path, quietly=True)


def clear(folder: Path) -> None:
    """Remove what a run wrote into its folder, and nothing else.

    Raises:
        OSError: something cannot be removed.
    """
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    for path in _matching(folder / CHECKPOINTS, _OWN_CHECKPOINT):
        remove(path)


def _matching(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    names = os.listdir(folder) if folder.is_dir() else []
    return (folder / name for name in names if pattern.fullmatch(name))
