"""Starting a run, or resuming one: the settings, the folder, the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm import tokenizers
from tinygrad_llm.backend import module_for
from tinygrad_llm.errors import ConfigError, DataError, TinygradLLMError
from tinygrad_llm.hints import command
from tinygrad_llm.nn import Module
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.progress import TrainingState
from tinygrad_llm.training.run.assemble import make_model
from tinygrad_llm.training.run.folder import PrintLine, RunFolder
from tinygrad_llm.training.run.owned import EDITED, MARK, SETTINGS, free_name
from tinygrad_llm.training.run.room import require_room
from tinygrad_llm.training.run.saved_start import as_saved, name_of
from tinygrad_llm.training.run.text import TokenText, load_text, short_name
from tinygrad_llm.training.run.versions import changed_versions
from tinygrad_llm.training.settings.config import TrainConfig
from tinygrad_llm.training.settings.files import read_settings
from tinygrad_llm.training.settings.flags import as_toml, differences


@dataclass(frozen=True)
class Session:
    """A run that is about to begin or to go on.

    As a context manager it lets go of the folder at the end.

    Attributes:
        config: its settings.
        run: its folder; None for what only computes: another rank (`distributed`), a search.
        checkpoint: the folder of the checkpoint to go on from, or None for a new run.
        state: that checkpoint's state, or None.
    """

    config: TrainConfig
    run: RunFolder | None
    checkpoint: Path | None
    state: TrainingState | None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.run is not None:
            self.run.close()

    def load_text(self) -> TokenText:
        """The tokenized text; a resumed run keeps its tokenizer."""
        try:
            return load_text(self.config, self._saved_tokenizer())
        except DataError as error:
            if self.checkpoint is None:
                raise
            raise DataError(f"{error} If the text was moved, add --data NEW_PLACE.") from error

    def load_model(self, text: TokenText) -> Module:
        """The model: new, or as it was."""
        return make_model(self.config, text.tokenizer.vocab_size, self.checkpoint)

    def what_is_saved(self) -> str:
        """A sentence about what a later ``--resume`` finds."""
        steps = [] if self.run is None else self.run.steps()
        if not steps:
            return "Nothing was saved yet."
        go_on = command("train", "--out", self.config.out, "--resume")
        return f"The checkpoint of step {steps[0]} is saved. Go on with: {go_on}"

    def _saved_tokenizer(self) -> Tokenizer | None:
        return None if self.checkpoint is None else tokenizers.load(self.checkpoint)


def open_session(
    chosen: Mapping[str, object],
    resume: bool,
    overwrite: bool,
    report: PrintLine = print,
    before_deleting: Callable[[str], None] | None = None,
    processes: int = 1,
) -> Session:
    """Open the run's folder, and find out where it stands. Nothing in it is changed yet.

    Args:
        chosen: settings that were given, see `flags.chosen_settings`.
        resume: go on from the newest intact checkpoint; begin where there is none.
        overwrite: an earlier run in the folder is to be removed, as soon as the new one is ready to
            begin (`RunFolder.begin`).
        report: called with each sentence that the user should read.
        before_deleting: called with a sentence that says what ``overwrite`` would remove; raises to
            keep it. None: the sentence is reported.
        processes: how many will train together.

    Raises:
        ConfigError: the folder holds a run and neither flag is given, or files of those names that
            are not a run's; or settings that do not fit.
        CheckpointError: there are checkpoints, and none is intact.
        DeviceError: the device is unknown or absent.
    """
    out = Path(str(chosen.get("out") or default_folder(chosen)))
    chosen = {**chosen, "out": str(out)}
    config = TrainConfig.from_dict(chosen)
    module_for(config.device)
    require_room(config)
    run = RunFolder(out, config.keep, replaces=overwrite)
    try:
        if run.foreign:
            raise ConfigError(
                f"{out}: holds {', '.join(run.foreign)}, which no training run of this program "
                "has written, and which a run would write over. Choose another folder with --out, "
                "or move them."
            )
        there = run.describe()
        if overwrite and there:
            (before_deleting or report)(f"{out}: --overwrite deletes the run there: {there}.")
        if run.steps() and not (resume or overwrite):
            raise ConfigError(
                f"{out}: holds a run already: {there}. Go on with it (--resume), choose another "
                "folder (--out FOLDER), or replace it (--overwrite)."
            )
        session = _resume(run, chosen, report, processes) if resume else None
        if session is None:
            session = Session(TrainConfig.from_dict(as_saved(chosen)), run, None, None)
        module_for(session.config.device)  # which the checkpoint may have named
        require_room(session.config)
    except BaseException:
        run.close()
        raise
    return session


def without_folder(chosen: Mapping[str, object]) -> Session:
    """A session that computes with these settings, and writes to no folder.

    Raises:
        ConfigError: settings that do not fit.
    """
    out = chosen.get("out") or default_folder(chosen)
    config = TrainConfig.from_dict(as_saved({**chosen, "out": out}))
    module_for(config.device)
    require_room(config)
    return Session(config, None, None, None)


def _resume(
    run: RunFolder, chosen: Mapping[str, object], report: PrintLine, processes: int
) -> Session | None:
    """The session of the newest checkpoint; None where there is no checkpoint yet."""
    found = run.load_newest(report)
    if found is None:
        report(f"{run.path}: no checkpoint yet; a new run begins.")
        return None
    checkpoint, state = found
    before = TrainConfig.from_dict(state["config"], "checkpoint")
    for sentence in differences(before, chosen) + changed_versions(state["versions"], processes):
        report(f"  changed: {sentence}")
    config = TrainConfig.from_dict({**before.to_dict(), **chosen})
    edited = _edited(run.path / SETTINGS, (before, config))
    if edited:
        run.edited = free_name(run.path / EDITED)
        report(
            f"{run.path / SETTINGS}: was changed since the checkpoint ({edited}). A resumed run "
            f"has its checkpoint's settings, and those given: --config {run.edited}, where the "
            "file is kept."
        )
    run.keep = config.keep
    report(f"Going on after step {state['step']}, from {checkpoint}.")
    return Session(config, run, checkpoint, state)


def _edited(file: Path, known: Sequence[TrainConfig]) -> str:
    """What a run's ``config.toml`` says that no checkpoint or flag has said; "" for nothing."""
    if not file.is_file():
        return ""
    try:
        there = read_settings(file)
    except TinygradLLMError as error:
        return str(error)
    of_the_run = [config.to_dict() for config in known]
    changed = ", ".join(
        f"{name} = {value!r}"
        for name, value in there.items()
        if all(value != settings.get(name) for settings in of_the_run)
    )
    written = {line for config in known for line in (MARK + as_toml(config)).splitlines()}
    is_own = written.issuperset(file.read_text(encoding="utf-8-sig").splitlines())
    return changed or ("" if is_own else "its comments")


def default_folder(chosen: Mapping[str, object]) -> str:
    """``runs/DATA-TOKENIZER``, or ``runs/DATA-from-MODEL``."""
    config = TrainConfig.from_dict(chosen)
    if config.init_from:
        return f"runs/{short_name(config.data)}-from-{name_of(config.init_from)}"
    return f"runs/{short_name(config.data)}-{Path(config.tokenizer).name}"
