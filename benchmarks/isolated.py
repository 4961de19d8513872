"""Pieces of work that survive each other's faults: a worker takes them until one breaks it.

An error of CUDA is final for its process: after one illegal address every later call fails. So a
worker that meets an error ends, and the next one goes on with what is left. A piece that crashes,
hangs or leaves the device broken costs its own result and no other.

    main:     lost = in_workers(["script.py", "--worker"], names, seconds=60)
    worker:   for name in pieces(names, seconds=60): ...
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

BEGIN, END = "@begin ", "@end "  # lines by which a worker tells where it is
GAVE_UP = "gave up"  # the worker has said why itself
_GIVE_UP = 13
HERE = Path(__file__).resolve().parent


def in_workers(command: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Run all names, each by the first worker that reaches it; name -> what ended its worker.

    Args:
        command: arguments of python that start a worker; it finds the names after them.
    """
    left, lost = list(names), {}
    while left:
        with subprocess.Popen(
            [sys.executable, *command, *left],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process:
            begun, left = _follow(process, left)
            status = process.wait()
        if begun:
            lost[begun] = _in_words(status)
            left.remove(begun)
        elif left:  # it ended between two pieces, or before the first: another would do so too
            return lost | {name: f"not begun: {_in_words(status)}" for name in left}
    return lost


def _follow(process: subprocess.Popen[str], left: Sequence[str]) -> tuple[str, list[str]]:
    """Print what the worker prints; the piece it was at when it ended, and those not done."""
    begun, open_ones = "", list(left)
    for line in process.stdout or ():
        if line.startswith(BEGIN):
            begun = line[len(BEGIN) :].strip()
        elif line.startswith(END):
            begun = ""
            open_ones.remove(line[len(END) :].strip())
        else:
            print(line, end="", flush=True)
    return begun, open_ones


def _in_words(status: int) -> str:
    if status == _GIVE_UP:
        return GAVE_UP
    return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"


def pieces(names: Sequence[str], seconds: float) -> Iterator[str]:
    """In a worker: each name in turn; the process ends where one takes longer than `seconds`."""
    faulthandler.enable()
    for name in names:
        print(f"{BEGIN}{name}", flush=True)
        faulthandler.dump_traceback_later(seconds, exit=True)
        yield name
        faulthandler.cancel_dump_traceback_later()
        print(f"{END}{name}", flush=True)


def give_up() -> None:
    """End this worker at once, without CUDA's and Python's own farewells, which may hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_GIVE_UP)
