"""The folder of a run: its checkpoints, which of them are kept, and one process at a time.

runs/pydoc-bpe/
  config.toml                     the settings, as --config reads them
  log.jsonl  timing.jsonl         see log.py
  loss.png
  checkpoints/step-00000500/      complete checkpoints, see checkpoint.py
  last -> checkpoints/step-...    the newest
  best -> checkpoints/step-...    the one with the lowest validation loss, else the newest
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.errors import CheckpointError, ConfigError, DataError
from tinygrad_llm.training.progress import TrainingState
from tinygrad_llm.training.report.log import LOG_NAME, TIMING_NAME, read_log
from tinygrad_llm.training.run.checkpoint import STATE_NAME, read_state, verify, write_checkpoint

PrintLine = Callable[[str], None]  # shows a line to people: print, or what stands in for it

_LOGS = (LOG_NAME, TIMING_NAME, "histograms.jsonl")
_BEGUN = frozenset((".lock", "checkpoints", "config.toml", *_LOGS))  # there before a checkpoint is


class RunFolder:
    """Checkpoints in a folder.

    A folder in which nothing came of the run, neither a checkpoint nor a logged step, is taken
    away again by `close`, with the parents that were made for it.

    Args:
        path: the run's folder; it is made.
        keep: how many of the newest checkpoints to keep, besides the best one.
        replaces: `begin` removes what an earlier run left here.

    Raises:
        ConfigError: the folder cannot be created or written, or another process is using it.
    """

    def __init__(self, path: str | Path, keep: int = 2, replaces: bool = False) -> None:
        self.path = Path(path)
        self.keep = keep
        self.replaces = replaces
        self.checkpoints = self.path / "checkpoints"
        self._made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        try:
            self._found = set() if self._made else set(os.listdir(self.path))
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
            self._let_go()
            raise ConfigError(
                f"{self.path}: another process is training there. Wait for it, or choose another "
                "folder with --out."
            ) from error

    def close(self) -> None:
        """Let another process use the folder; one in which nothing came of the run is removed."""
        if self._lock < 0:
            return
        try:
            if self._nothing_came_of_it():
                self._leave_as_found()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        os.close(self._lock)
        self._lock = -1

    def _nothing_came_of_it(self) -> bool:
        new = set(os.listdir(self.path)) - self._found
        return new <= _BEGUN and not any(self.checkpoints.iterdir()) and not self._logged_steps()

    def _leave_as_found(self) -> None:
        """Remove what was made here; whatever stood here before stays."""
        for name in _BEGUN - self._found - {"checkpoints"}:
            (self.path / name).unlink(missing_ok=True)
        made = self._made if "checkpoints" in self._found else [self.checkpoints, *self._made]
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # somebody else put something there
                return

    def _logged_steps(self) -> int:
        """The last training step in the log; 0 where there is none."""
        try:
            lines = read_log(self.path / LOG_NAME)
        except DataError:
            return 0
        return max((int(line.get("step", 0)) for line in lines), default=0)

    def begin(self, settings: str) -> None:
        """Write ``config.toml``, after removing the run that is replaced.

        To be called when all that the run needs is known to be there and to fit.

        Raises:
            ConfigError: something cannot be removed.
        """
        if self.replaces:
            self._clear()
        write_atomic(self.path / "config.toml", settings.encode("utf-8"))

    def _clear(self) -> None:
        """Remove what a run wrote here, and nothing else."""
        try:
            for name in ("last", "best", "loss.png", "config.toml", *_LOGS):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.checkpoints)
            self.checkpoints.mkdir()
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be cleared ({error.strerror}).") from error
        self._found -= _BEGUN

    def describe(self) -> str | None:
        """What a run left here, for people; None where there is nothing of one.

        Such as ``"what was learned up to steps 500, 1000 (best validation loss 2.1507, at step
        1000)"``.
        """
        steps = sorted(self.steps())
        if not steps:
            logged = self._logged_steps()
            return f"the log of {logged} steps" if logged else None
        which = f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))}"
        return f"what was learned up to {which}{self._best_of(steps[-1])}"

    def _best_of(self, step: int) -> str:
        """The best loss that a checkpoint knows of; "" where it cannot be read."""
        try:
            state = json.loads((self.folder_of(step) / STATE_NAME).read_bytes())
            best = state["trainer"]
            loss, at = float(best["best_loss"]), int(best["best_step"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return f" (best validation loss {loss:.4f}, at step {at})"

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

        Before the first validation, or without any, the newest counts as the best.

        Raises:
            CheckpointError: it cannot be written; all others are intact.
        """
        folder = write_checkpoint(self.folder_of(step), write_model, state)
        self._link("last", folder)
        best = folder if best_step is None else self.folder_of(best_step)
        if best.is_dir():
            self._link("best", best)
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
