"""The folder of a fine-tuning that has several stages: its settings, a lock, their checkpoints.

runs/spam/
  finetuning.json                 settings and data: what --resume goes on with
  checkpoints/balanced-all/       a `RunFolder` for each stage, until all are done
  balanced/  full/                the results

A stage that is finished keeps its last checkpoint until the whole is done, so that nothing is
trained twice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.checksums import CHECKSUMS_NAME, own_checksum, sealed
from tinygrad_llm.backend.files import remove, write_atomic
from tinygrad_llm.backend.saved_folder import SAVED_NAME
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.training.run.folder import PrintLine, RunFolder
from tinygrad_llm.training.run.owned import STAGE_NAMES
from tinygrad_llm.training.run.versions import changed_versions, versions

FILE_NAME = "finetuning.json"
FORMAT, VERSION = "tinygrad_llm fine-tuning", 1
_KINDS = {"settings": dict, "data": str, "versions": dict, "finished": bool}
# What another value of a setting means for a run that is resumed; any other cannot change.
HARMLESS = frozenset(("answers", "max_new_tokens", "judge", "judge_model"))
BITS = frozenset(("device", "dtype", "graph"))


class TuningFolder:
    """A fine-tuning on the disk; a context manager that lets go of the folder at the end.

    A folder in which nothing came of it is removed again.

    Args:
        path: the folder; it is made.
        settings: how is tuned, in JSON's types.
        results: names of the files and folders that a finished one leaves here.
        resume: go on with what is there; begin where there is nothing.
        overwrite: `begin` removes what is there.
        report: called with each sentence that the user should read.
        before_deleting: called with a sentence that says what ``overwrite`` would remove; raises to
            keep it. None: the sentence is reported.

    Attributes:
        finished: whether it was done before.

    Raises:
        ConfigError: the folder holds a fine-tuning and neither flag is given, or a training run; or
            another process is using it; or settings differ that cannot change.
        CheckpointError: its description is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, object],
        results: Sequence[str],
        resume: bool = False,
        overwrite: bool = False,
        report: PrintLine = print,
        before_deleting: PrintLine | None = None,
    ) -> None:
        self.path, self._settings, self._results = Path(path), dict(settings), tuple(results)
        self._report, self._overwrite = report, overwrite
        self._ask = before_deleting or report
        self._stages: list[RunFolder] = []
        self._written = False
        self._run = RunFolder(self.path)
        try:
            self._begun = self._look() if resume else None
            self._refuse_to_replace()
        except BaseException:
            self._run.close()
            raise
        self.finished = bool(self._begun and self._begun["finished"] and self._present())

    def __enter__(self) -> TuningFolder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for stage in self._stages:
            stage.close()
        if self._written and not (self.finished or self.describe()):
            (self.path / FILE_NAME).unlink(missing_ok=True)
        if self.finished:
            for left in self._left_stages():  # by a process that was killed while it removed them
                remove(left, quietly=True)
        self._run.close()
        if self.finished:
            with suppress(OSError):  # something there is not ours
                self._run.checkpoints.rmdir()

    def _left_stages(self) -> list[Path]:
        """The folders of stages, or what is left of them."""
        folders = [path for path in self._run.checkpoints.iterdir() if path.is_dir()]
        return [path for path in folders if STAGE_NAMES.issuperset(os.listdir(path))]

    def _look(self) -> dict[str, Any] | None:
        """What was begun here, if its settings fit."""
        begun = read_begun(self.path)
        if begun is None:
            self._report(f"{self.path}: no checkpoint yet; a new run begins.")
            return None
        for sentence in differences(begun["settings"], self._settings):
            self._report(f"  changed: {sentence}")
        for sentence in changed_versions(begun["versions"]):
            self._report(f"  changed: {sentence}")
        return begun

    def _refuse_to_replace(self) -> None:
        if self._run.steps():
            raise ConfigError(
                f"{self.path}: holds a training run. Choose another folder with --out FOLDER."
            )
        there = self.describe()
        if there and not (self.path / FILE_NAME).is_file():
            raise ConfigError(
                f"{self.path}: holds {there}, which no fine-tuning of this program has left there, "
                "and which one would write over. Choose another folder with --out, or move them."
            )
        if there and self._overwrite:
            self._ask(f"{self.path}: --overwrite deletes the run there: {there}.")
        elif there and not self._begun:
            raise ConfigError(
                f"{self.path}: holds a run already: {there}. Go on with it (--resume), choose "
                "another folder (--out FOLDER), or replace it (--overwrite)."
            )

    def describe(self) -> str:
        """What is here, for people; "" where there is nothing."""
        saved = [f"checkpoints of {', '.join(self.saved())}"] if self.saved() else []
        return " and ".join(saved + [", ".join(self._present())] * bool(self._present()))

    def saved(self) -> list[str]:
        """The stages with a checkpoint, see `saved_stages`."""
        return saved_stages(self.path)

    def _present(self) -> list[str]:
        return [name for name in self._results if (self.path / name).exists()]

    def begin(self, data: str) -> None:
        """Write down what begins, when everything that it needs is there and fits.

        Args:
            data: checksum of the data set, see `checksum_of_examples`.

        Raises:
            CheckpointError: what is resumed began with other data.
            ConfigError: what is to be replaced cannot be removed.
        """
        if self._begun is not None and self._begun["data"] != data:
            raise CheckpointError(
                "--resume: the data set is not the one this run began with. Restore its file, or "
                "begin a new run in another folder with --out."
            )
        self._write(data, finished=False)  # first: half of what is cleared is no finished run
        if self._overwrite:
            self._clear()

    def _clear(self) -> None:
        try:
            left = map(self.path.joinpath, (*self._results, CHECKSUMS_NAME, SAVED_NAME))
            for path in [*self._left_stages(), *left]:
                remove(path)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be cleared ({error.strerror}).") from error

    def _write(self, data: str, finished: bool) -> None:
        self._begun = {
            "format": FORMAT,
            "version": VERSION,
            "settings": self._settings,
            "data": data,
            "versions": versions(),
            "finished": finished,
        }
        file = self.path / FILE_NAME
        try:
            write_atomic(file, sealed(self._begun))
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be written ({error.strerror}).") from error
        self._written = True

    def stage(self, name: str) -> RunFolder:
        """The folder of a stage's checkpoints, for ``fit(..., run=...)``."""
        self._stages.append(RunFolder(self._run.checkpoints / name))
        return self._stages[-1]

    def finish(self) -> None:
        """Note that the results are complete, and remove the checkpoints."""
        if self._begun is None:
            raise ConfigError(f"{self.path}: call begin() before finish().")
        self._write(self._begun["data"], finished=True)
        self.finished = True
        for stage in self._stages:
            stage.close()
            remove(stage.path, quietly=True)
        self._stages = []


def read_begun(path: Path) -> dict[str, Any] | None:
    """What a fine-tuning in this folder began with; None where there is none.

    Raises:
        CheckpointError: the file is damaged, or of another version.
    """
    file = path / FILE_NAME
    try:
        begun = strict_json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: is damaged ({error}). Begin anew: --overwrite.") from error
    known = isinstance(begun, dict) and (begun.get("format"), begun.get("version"))
    if known != (FORMAT, VERSION) or begun.pop("sha256", None) not in (None, own_checksum(begun)):
        raise CheckpointError(
            f"{file}: is damaged, or of another version: expected format {FORMAT!r}, version "
            f"{VERSION}. Begin anew with --overwrite."
        )
    odd = [name for name, kind in _KINDS.items() if not isinstance(begun.get(name), kind)]
    if odd:
        raise CheckpointError(
            f"{file}: is damaged: {' and '.join(odd)} missing or of another type than was written. "
            "Begin anew with --overwrite."
        )
    return begun


def saved_stages(path: Path) -> list[str]:
    """The stages with a checkpoint, such as ``"balanced-all (step 34)"``."""
    steps = sorted(path.glob("checkpoints/*/checkpoints/step-*"))
    newest = {step.parents[1].name: step.name for step in steps}
    return [f"{name} (step {int(step[5:])})" for name, step in newest.items()]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Sentences about settings that differ from those of the run that is resumed.

    Raises:
        ConfigError: a setting differs that cannot be changed within a run.
    """
    changed = [k for k, v in now.items() if k not in HARMLESS and before.get(k) != v]
    listed = [f"{name}: {before.get(name)!r} -> {now[name]!r}" for name in changed]
    if not BITS.issuperset(changed):
        raise ConfigError(
            f"--resume: these settings cannot change within a run ({'; '.join(listed)}). Leave "
            "them out, or begin a new run in another folder with --out."
        )
    return [f"{what} (the weights will differ from those of an undisturbed run)" for what in listed]


def checksum_of_examples(examples: Iterable[object]) -> str:
    """SHA-256 of data classes, such as messages or instructions, in their order."""
    return hashlib.sha256("\n".join(map(repr, examples)).encode("utf-8")).hexdigest()
