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

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.files import reading_errors, remove, write_atomic
from tinygrad_llm.errors import CheckpointError, ConfigError, DataError
from tinygrad_llm.training.progress import TrainingState
from tinygrad_llm.training.report.log import LOG_NAME, read_log
from tinygrad_llm.training.run import owned
from tinygrad_llm.training.run.best_left import replace_best
from tinygrad_llm.training.run.checkpoint import STATE_NAME, read_state, write_checkpoint
from tinygrad_llm.training.run.lock import take_lock

PrintLine = Callable[[str], None]  # shows a line to people: print, or what stands in for it

# What is there before a checkpoint is.
_BEGUN = frozenset((owned.LOCK, owned.CHECKPOINTS, owned.SETTINGS, *owned.LOGS))


class RunFolder:
    """Checkpoints in a folder.

    A folder in which nothing came of the run, neither a checkpoint nor a logged step, is taken
    away again by `close`, with the parents that were made for it.

    Args:
        path: the run's folder; it is made.
        keep: how many of the newest checkpoints to keep, besides the best one.
        replaces: `begin` removes what an earlier run left here.

    Attributes:
        foreign: names of what no run has written here, and a new run would write over.
        edited: where `begin` keeps a ``config.toml`` that was changed by hand; None: it was not.

    Raises:
        ConfigError: the folder cannot be created or written, or another process is using it.
    """

    def __init__(self, path: str | Path, keep: int = 2, replaces: bool = False) -> None:
        self.path = Path(path)
        self.keep = keep
        self.replaces = replaces
        self.checkpoints = self.path / owned.CHECKPOINTS
        self.edited: Path | None = None
        self._newest: tuple[Path, int | None] | None = None
        try:
            self._made = [p for p in (self.path, *self.path.parents) if not p.exists()]
            self._found = set() if self._made else set(os.listdir(self.path))
            ours = owned.is_run(self.path)
            self.foreign = [] if ours else owned.run_names(self.path)
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._found_inside = set(os.listdir(self.checkpoints))
            self._lock = take_lock(self.path / owned.LOCK)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be created or written ({error.strerror}). Choose another "
                "folder with --out."
            ) from error
        if ours:
            owned.remove_leftovers(self.path)

    def close(self) -> None:
        """Let another process use the folder; one in which nothing came of the run is removed."""
        if not self._lock.held:
            return
        try:
            with suppress(OSError):  # then it stays: nothing is wrong with it
                if self._nothing_came_of_it():
                    self._leave_as_found()
        finally:
            self._lock.release(remove=False)

    def _nothing_came_of_it(self) -> bool:
        new = set(os.listdir(self.path)) - self._found
        inside = set(os.listdir(self.checkpoints)) - self._found_inside
        return new <= _BEGUN and not inside and not self._logged_steps()

    def _leave_as_found(self) -> None:
        """Remove what was made here; whatever stood here before stays."""
        for name in _BEGUN - self._found - {owned.CHECKPOINTS}:
            (self.path / name).unlink(missing_ok=True)
        made = self._made if owned.CHECKPOINTS in self._found else [self.checkpoints, *self._made]
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

        To be called when all that the run needs is known to be there and to fit. Of a run that goes
        on, links and rotation are brought up to date: it may have been stopped before that.

        Raises:
            ConfigError: something cannot be removed or written.
        """
        file = self.path / owned.SETTINGS
        if self.replaces:
            self._clear()
        try:
            if self.edited:
                os.replace(file, self.edited)
            write_atomic(file, (owned.MARK + settings).encode("utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{file}: cannot be written ({error.strerror}). Check the free space and the "
                "permissions."
            ) from error
        if self._newest is not None:
            self._arrange(*self._newest)

    def _clear(self) -> None:
        try:
            owned.clear(self.path)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be cleared ({error.strerror}).") from error
        self._found -= _BEGUN
        self._found_inside = set()

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
        file = self.folder_of(step) / STATE_NAME
        try:
            state = strict_json.loads(file.read_bytes()) if file.is_file() else {}
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
        with reading_errors(self.checkpoints, CheckpointError):
            folders = [path for path in self.checkpoints.iterdir() if path.is_dir()]
        found = [owned.step_of(path.name) for path in folders]
        return sorted((step for step in found if step is not None), reverse=True)

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
        self._arrange(folder, best_step)
        return folder

    def load_newest(
        self, report: PrintLine, has_best: bool = True
    ) -> tuple[Path, TrainingState] | None:
        """The newest checkpoint that is intact, and its state; None where there is none at all.

        Damaged ones are renamed to ``damaged-...`` and reported. Where that was the best one, the
        state names the best of those that are left.

        Args:
            report: called with each sentence that the user should read.
            has_best: `save` is given the step of the best checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        complaints = []
        for step in self.steps():
            folder = self.folder_of(step)
            try:
                state = read_state(folder)
            except (CheckpointError, OSError) as error:
                complaints.append(str(error))
                report(f"{error} Going back to the checkpoint before it.")
                self.set_aside(folder)
                continue
            best = replace_best(self, state, report) if has_best else None
            self._newest = (folder, best)
            return folder, state
        if complaints:
            raise CheckpointError(
                f"{self.path}: no checkpoint is intact. "
                + " ".join(complaints)
                + " Begin a new run with --overwrite, or copy a backup there."
            )
        return None

    def set_aside(self, folder: Path) -> None:
        """Rename a damaged checkpoint: it is no checkpoint any more, and still there to look at."""
        target = folder.with_name(f"damaged-{folder.name}")
        try:
            remove(target, quietly=True)
            os.rename(folder, target)
        except OSError as error:
            _warn(folder, "is damaged and cannot be renamed", error)

    def _arrange(self, newest: Path, best_step: int | None) -> None:
        """Point ``last`` and ``best`` to checkpoints, and remove those that are no longer kept."""
        best = newest if best_step is None else self.folder_of(best_step)
        self._link("last", newest)
        if os.path.isdir(best):  # no error where it cannot be told
            self._link("best", best)
        for old in self.steps()[self.keep :]:
            if old != best_step:
                self._remove(self.folder_of(old))

    def _remove(self, folder: Path) -> None:
        """Remove a checkpoint: renamed first, so that half of one never looks like a whole."""
        doomed = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            os.rename(folder, doomed)
            remove(doomed)
        except OSError as error:  # what remains is removed by the next run here
            _warn(folder, "is no longer needed and cannot be removed", error)

    def _link(self, name: str, target: Path) -> None:
        """Point a symbolic link to a checkpoint; at no moment is there none."""
        link, place = self.path / name, target.relative_to(self.path)
        temporary = self.path / f".{name}.{os.getpid()}.tmp"
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(place, target_is_directory=True)
            os.replace(temporary, link)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if os.path.lexists(link):  # else a file system without links, which can do without
                _warn(link, f"cannot be pointed to {place}, and names an older one", error)


def _warn(path: Path, problem: str, error: OSError) -> None:
    """Say what went wrong beside a checkpoint that is complete, so that nothing has to stop."""
    warnings.warn(f"{path}: {problem} ({error.strerror}).", stacklevel=3)
