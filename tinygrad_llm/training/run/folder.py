"""The folder of a run: its checkpoints, which of them are kept, and one process at a time.

runs/pydoc-bpe/
  config.toml                     the settings, as --config reads them
  log.jsonl  timing.jsonl         see log.py
  loss.png
  checkpoints/step-00000500/      complete checkpoints, see checkpoint.py
  last -> checkpoints/step-...    the newest
  best -> checkpoints/step-...    the one with the lowest validation loss
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.training.progress import TrainingState
from tinygrad_llm.training.run.checkpoint import read_state, verify, write_checkpoint

PrintLine = Callable[[str], None]  # shows a line to people: print, or what stands in for it


class RunFolder:
    """Checkpoints in a folder.

    Args:
        path: the run's folder; it is made.
        keep: how many of the newest checkpoints to keep, besides the best one.

    Raises:
        ConfigError: the folder cannot be created or written, or another process is using it.
    """

    def __init__(self, path: str | Path, keep: int = 2) -> None:
        self.path = Path(path)
        self.keep = keep
        self.checkpoints = self.path / "checkpoints"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be created or written ({error.strerror}). Choose another "
                "folder with --out."
            ) from error
        self._take_lock()
        for leftover in self.checkpoints.glob(".*.tmp"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not POSIX
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"{self.path}: another process is training there. Wait for it, or choose another "
                "folder with --out."
            ) from error

    def close(self) -> None:
        """Let another process use the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def folder_of(self, step: int) -> Path:
        """Where the checkpoint of a step stands."""
        return self.checkpoints / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, newest first; they may be damaged."""
        names = [path.name for path in self.checkpoints.iterdir() if path.is_dir()]
        found = [re.fullmatch(r"step-(\d{8,})", name) for name in names]
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def save(
        self,
        step: int,
        write_model: Callable[[Path], None],
        state: Mapping[str, object],
        best_step: int | None,
    ) -> Path:
        """Write a checkpoint, point ``last`` and ``best`` to it, remove those no longer kept.

        Raises:
            CheckpointError: it cannot be written; all others are intact.
        """
        folder = write_checkpoint(self.folder_of(step), write_model, state)
        self._link("last", folder)
        if best_step is not None and self.folder_of(best_step).is_dir():
            self._link("best", self.folder_of(best_step))
        for old in self.steps()[self.keep :]:
            if old != best_step:
                self._remove(self.folder_of(old))
        return folder

    def load_newest(self, report: PrintLine) -> tuple[Path, TrainingState] | None:
        """The newest checkpoint that is intact, and its state; None where there is none at all.

        Damaged ones are renamed to ``damaged-...`` and reported.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        complaints = []
        for step in self.steps():
            folder = self.folder_of(step)
            try:
                state = read_state(folder)
            except CheckpointError as error:
                complaints.append(str(error))
                report(f"{error} Going back to the checkpoint before it.")
                self._set_aside(folder)
                continue
            self._check_best(state, report)
            return folder, state
        if complaints:
            raise CheckpointError(
                f"{self.path}: no checkpoint is intact. "
                + " ".join(complaints)
                + " Begin a new run with --overwrite, or copy a backup there."
            )
        return None

    def _check_best(self, state: TrainingState, report: PrintLine) -> None:
        best = (state.get("trainer") or {}).get("best_step")
        if not isinstance(best, int) or not self.folder_of(best).is_dir():
            return
        try:
            verify(self.folder_of(best))
        except CheckpointError as error:
            report(f"{error} It was the best checkpoint; the next better one will take its place.")
            self._set_aside(self.folder_of(best))

    def _set_aside(self, folder: Path) -> None:
        target = folder.with_name(f"damaged-{folder.name}")
        shutil.rmtree(target, ignore_errors=True)
        os.rename(folder, target)

    def _remove(self, folder: Path) -> None:
        """Remove a checkpoint: renamed first, so that half of one never looks like a whole."""
        doomed = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        os.rename(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _link(self, name: str, target: Path) -> None:
        """Point a symbolic link to a checkpoint; at no moment is there none."""
        temporary = self.path / f".{name}.{os.getpid()}.tmp"
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target.relative_to(self.path), target_is_directory=True)
            os.replace(temporary, self.path / name)
        except OSError:
            return  # a file system without links: the checkpoints are complete without them


def clear_run(path: Path) -> None:
    """Remove what a run wrote into a folder (--overwrite), and nothing else.

    Raises:
        ConfigError: something cannot be removed.
    """
    try:
        for name in ("last", "best"):
            (path / name).unlink(missing_ok=True)
        if (path / "checkpoints").is_dir():
            shutil.rmtree(path / "checkpoints")
        for name in ("log.jsonl", "timing.jsonl", "loss.png", "config.toml"):
            (path / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be cleared ({error.strerror}).") from error
