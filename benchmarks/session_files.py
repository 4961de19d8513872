"""Logs and rows of gpu_session.py: a folder, and the one archive that leaves the machine.

The archive is written under another name and renamed, so whenever the machine is taken away there
is a whole one, a few seconds old.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LARGEST = 2 << 20  # bytes; of a longer file only the end goes into the archive
TABLE = 4800  # characters of the table


class Files:
    """The folders of one session.

    Args:
        out: gets session.tgz and table.txt.
        work: logs and rows.
        results: rows of all sessions, to which those of this one are appended.

    What lies in `work`, or else in the archive, stays; rows are added, and logs of stages that run
    again replaced.
    """

    def __init__(self, out: Path, work: Path, results: Path) -> None:
        self.out, self.work, self.results = out, work, results
        work.mkdir(parents=True, exist_ok=True)
        if self.archive.exists() and not self._session.exists():
            self._unpack()
        self._published = {path.name: path.stat().st_size for path in work.glob("*.jsonl")}

    @property
    def archive(self) -> Path:
        """Where everything ends up."""
        return self.out / "session.tgz"

    @property
    def _session(self) -> Path:
        return self.work / "session.jsonl"

    def log(self, stage: str) -> Path:
        """Where a stage's output goes."""
        return self.work / f"{stage}.log"

    def end_of_log(self, stage: str, characters: int) -> str:
        """The last lines of a stage's output."""
        with open(self.log(stage), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4 * characters))
            text = file.read().decode("utf-8", errors="replace").rstrip()
        return text if len(text) <= characters else text[-characters:].partition("\n")[2]

    def note(self, outcome: str) -> None:
        """Remember what became of a stage, a line of JSON."""
        with open(self._session, "a", encoding="utf-8") as file:
            file.write(outcome + "\n")

    def outcomes(self) -> list[dict[str, Any]]:
        """What became of the stages, the last outcome of each."""
        return list({row["name"]: row for row in rows(self._session)}.values())

    def passed(self) -> set[str]:
        """Names of the stages that need not run again."""
        return {row["name"] for row in self.outcomes() if row["verdict"] == "passed"}

    def pack(self) -> None:
        """Write the archive anew; a full disk is reported and stops nothing else."""
        part = self.out / ".session.tgz.part"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with tarfile.open(part, "w:gz", compresslevel=4) as archive:
                for path in sorted(self.work.rglob("*")):
                    if path.is_file():
                        _add(archive, path, str(Path("session") / path.relative_to(self.work)))
            os.replace(part, self.archive)
        except OSError as error:
            print(f"{self.archive} is not written: {error}", flush=True)

    def publish(self) -> None:
        """Append the rows that are new to the results of all sessions."""
        for path in sorted(self.work.glob("*.jsonl")):
            done = self._published.get(path.name, 0)
            try:
                new = path.read_bytes()[done:]
                if new and path != self._session:
                    self.results.mkdir(parents=True, exist_ok=True)
                    with open(self.results / path.name, "ab") as file:
                        file.write(new)
                self._published[path.name] = done + len(new)
            except OSError as error:
                print(f"rows of {path} are not in {self.results}: {error}", flush=True)

    def _unpack(self) -> None:
        try:
            with tarfile.open(self.archive) as archive:
                for member in archive.getmembers():
                    content = archive.extractfile(member)
                    path = self.work / Path(member.name).relative_to("session")
                    if content is not None and ".." not in path.parts:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(content.read())
        except (OSError, ValueError, tarfile.TarError) as error:
            print(f"{self.archive} is not read: {error}", flush=True)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """A file as it is now, also while it grows; the end of a very long one."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LARGEST))
        content = file.read(LARGEST)
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), int(path.stat().st_mtime)
    archive.addfile(info, io.BytesIO(content))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of JSON; one that was cut off is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def report(files: Files) -> None:
    """Print stages, training speeds and kernels, short enough to be the last thing seen."""
    lines = ["", f"{'stage':12}{'seconds':>8}  verdict"]
    lines += [f"{o['name']:12}{o['seconds']:8.0f}  {o['verdict']}" for o in files.outcomes()]
    for r in list(rows(files.work / "train_cuda.jsonl"))[-9:]:
        lines.append(
            f"B={r['batch']:<4}{r['contender']:16}{r['tokens_per_second']:>10,.0f} tokens/s"
            f"{r['ms']:>8.1f} ms{r['peak_gb']:>7.1f} GB  ours / this {r['ratio']:.2f}"
        )
    newest = {
        (r["op"], r["shape"], r.get("ran")): r
        for r in rows(files.work / "kernels.jsonl")
        if "shape" in r
    }
    lines += [_kernel(row) for row in newest.values()]
    text = "\n".join(lines)
    if len(text) > TABLE:
        text = text[:TABLE].rpartition("\n")[0] + f"\n... the rest is in {files.archive}"
    print(text, flush=True)
    try:
        files.out.mkdir(parents=True, exist_ok=True)
        (files.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        print(f"table.txt is not written: {error}", flush=True)


def _kernel(row: dict[str, Any]) -> str:
    name = f"{row['op'][:19]:20}{row['shape'][:22]:23}{row.get('ran', '')[:14]:15}"
    if "ms" not in row:
        return name + str(row.get("refused") or row.get("failed"))[:60]
    text = f"{name}{row['ms']:9.3f} ms"
    if "rate" in row:
        text += f"{row['rate']:7.0f} {row['unit']:8}{row.get('percent_of_ceiling', 0):4.0f} %"
    return text
