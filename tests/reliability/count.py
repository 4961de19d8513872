"""Counts every trial of this folder, and lists what was found.

python tests/reliability/count.py                 all of them: about an hour
python tests/reliability/count.py --every 7       each seventh event
python tests/reliability/count.py --only crashes errors --kinds classifier train
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.reliability import commands, trials
from tests.reliability.commands import COMMANDS, Called
from tests.reliability.saved import KINDS
from tests.reliability.trials import Count, Saved

ROUNDS = ("crashes", "openers", "errors", "reads", "readers", "overtaken", "damages", "commands")


def rounds_of(saved: Saved, arguments: argparse.Namespace) -> dict[str, Callable[[], Count]]:
    """Each round, of a folder that was saved."""
    every = arguments.every
    return {
        "crashes": lambda: trials.crashes(saved, every),
        "openers": lambda: trials.crashes_of_openers(saved, every),
        "errors": lambda: trials.errors(saved, every),
        "reads": lambda: trials.errors_of_openers(saved, every),
        "readers": lambda: trials.readers(saved, every),
        "overtaken": lambda: trials.overtaken(saved, every),
        "damages": lambda: trials.damages(saved, arguments.damages, arguments.seed),
    }


def counted(arguments: argparse.Namespace, work: Path) -> Iterator[tuple[str, str, Count]]:
    """(round, kind, count) of all that was asked for."""
    for kind in [k for k in KINDS if k in arguments.kinds]:
        saved = Saved(kind, work / kind)
        for name, round_ in rounds_of(saved, arguments).items():
            if name in arguments.only and (KINDS[kind].replaces or name in ("reads", "damages")):
                yield name, kind, round_()
        if "crashes" in arguments.only and KINDS[kind].replaces:
            first = Saved(kind, work / f"{kind}, first", older=False)
            yield "crashes, first save", kind, trials.crashes(first, arguments.every)
    for name in [n for n in COMMANDS if n in arguments.kinds and "commands" in arguments.only]:
        called = Called(name, work / name)
        yield "crashes", name, commands.crashes_of_commands(called, arguments.every)
        yield "errors", name, commands.errors_of_commands(called, arguments.every, trials.ERRORS)
        if called.command.asked:
            tries = arguments.damages // arguments.every
            yield "damages", name, commands.damages_of_commands(called, tries, arguments.seed)


def main() -> int:
    """Print a line per round and kind, then the finds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROUNDS, default=ROUNDS)
    parser.add_argument("--kinds", nargs="+", default=[*KINDS, *COMMANDS])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--damages", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--finds", type=int, default=5, help="shown of each round and kind")
    arguments = parser.parse_args()
    found = 0
    with tempfile.TemporaryDirectory() as work:
        for name, kind, count in counted(arguments, Path(work)):
            print(f"{time.strftime('%H:%M:%S')} {name:22}{kind:22}{count}", flush=True)
            for find in count.finds[: arguments.finds]:
                print(f"    {find.replace(work, '')}", flush=True)
            found += len(count.finds)
    print(f"{found} finds")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
