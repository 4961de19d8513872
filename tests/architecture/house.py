"""The house in figures: how far it is from a name to its formula, and what stands in the way.

    python tests/architecture/house.py                    this checkout
    python tests/architecture/house.py OTHER_CHECKOUT     another one, to compare
    python tests/architecture/house.py --mypy             and the errors with Any forbidden (slow)

`tests/architecture/test_house.py` holds the limits; docs/architecture.md has the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from arrows import arrows, circles
from derivations import distances
from reading import long_files, long_functions, repeated, share_of_any

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]


def frames(root: Path) -> dict[str, dict[str, Any]]:
    """What frames.py measures, in a process that imports the given checkout."""
    done = subprocess.run(
        [sys.executable, str(HERE.with_name("frames.py"))],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(done.stdout)


def errors_without_any(root: Path) -> Counter[str]:
    """Package -> errors of mypy with --disallow-any-explicit.

    NumPy's own ``np.ndarray`` without parameters is an Any to mypy: each function of arrays is one.
    So compare packages by `share_of_any`; this tells where else types are open.
    """
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--disallow-any-explicit", "--cache-dir", "/dev/null"],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
    )
    found: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        path, _, rest = line.partition(":")
        if " error: " in rest:
            parts = Path(path).parts
            found["/".join(parts[:2]) if parts[0] == "tinygrad_llm" else parts[0]] += 1
    return found


def rooms(root: Path) -> tuple[int, int]:
    """Files at the top of training/, and folders in it."""
    training = root / "tinygrad_llm" / "training"
    files = [p for p in training.glob("*.py") if p.name != "__init__.py"]
    return len(files), sum(1 for p in training.glob("*/__init__.py"))


def report(root: Path, with_mypy: bool) -> str:
    """The whole table."""
    lines = ["from the derivation to the backward, in lines"]
    lines += [f"  {op:24}{n:5}" for op, n in distances(root).items()]
    lines.append("\nfrom GPT.loss to the formula: frames, files; frames from the module's call")
    for op, figures in frames(root).items():
        numbers = f"{figures['frames']:5}{figures['files']:5}{figures['from module']:5}"
        lines.append(f"  {op:24}{numbers}   {' > '.join(figures['route'])}")
    shares = share_of_any(root)
    lines.append("\nannotations in which Any occurs")
    for name, (some, every) in sorted(shares.items()):
        lines.append(f"  {name:24}{some:5} of {every:5}{100 * some / max(every, 1):7.1f} %")
    some, every = (sum(pair[i] for pair in shares.values()) for i in (0, 1))
    lines.append(f"  {'all':24}{some:5} of {every:5}{100 * some / every:7.1f} %")
    if with_mypy:
        lines.append("\nerrors of mypy with Any forbidden")
        lines += [f"  {name:24}{n:5}" for name, n in sorted(errors_without_any(root).items())]
    files, folders = rooms(root)
    lines.append(f"\ntraining/: {files} files at the top, {folders} rooms")
    for title, found in (
        ("circles of imports", [" ".join(c) for c in circles(arrows(root))]),
        ("files over 300 lines", long_files(root)),
        ("functions over 40 lines", long_functions(root)),
        ("four lines that stand in two places", repeated(root)),
    ):
        lines.append(f"{title}: {len(found)}")
        lines += [f"  {what}" for what in found]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--mypy", action="store_true", help="count mypy's errors without Any, too")
    args = parser.parse_args(argv)
    print(report(args.checkout.resolve(), args.mypy))
    return 0


if __name__ == "__main__":
    sys.exit(main())
