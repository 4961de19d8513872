"""Starting a run, or resuming one: the settings, the folder, the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm import tokenizers
from tinygrad_llm.backend import module_for
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.hints import command
from tinygrad_llm.nn import Module
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.progress import TrainingState
from tinygrad_llm.training.run.assemble import make_model
from tinygrad_llm.training.run.folder import PrintLine, RunFolder
from tinygrad_llm.training.run.saved_start import as_saved, name_of
from tinygrad_llm.training.run.text import TokenText, load_text, short_name
from tinygrad_llm.training.run.versions import changed_versions
from tinygrad_llm.training.settings.config import TrainConfig
from tinygrad_llm.training.settings.flags import differences


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
        return load_text(self.config, self._saved_tokenizer())

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

    Raises:
        ConfigError: the folder holds a run and neither flag is given; or settings that do not fit.
        CheckpointError: there are checkpoints, and none is intact.
        DeviceError: the device is unknown or absent.
    """
    out = Path(str(chosen.get("out") or default_folder(chosen)))
    chosen = {**chosen, "out": str(out)}
    config = TrainConfig.from_dict(chosen)
    module_for(config.device)
    run = RunFolder(out, config.keep, replaces=overwrite)
    try:
        there = run.describe()
        if overwrite and there:
            (before_deleting or report)(f"{out}: --overwrite deletes the run there: {there}.")
        if run.steps() and not (resume or overwrite):
            raise ConfigError(
                f"{out}: holds a run already: {there}. Go on with it (--resume), choose another "
                "folder (--out FOLDER), or replace it (--overwrite)."
            )
        session = _resume(run, chosen, report) if resume else None
        if session is None:
            session = Session(TrainConfig.from_dict(as_saved(chosen)), run, None, None)
        module_for(session.config.device)  # which the checkpoint may have named
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
    return Session(config, None, None, None)


def _resume(run: RunFolder, chosen: Mapping[str, object], report: PrintLine) -> Session | None:
    """The session of the newest checkpoint; None where there is no checkpoint yet."""
    found = run.load_newest(report)
    if found is None:
        report(f"{run.path}: no checkpoint yet; a new run begins.")
        return None
    checkpoint, state = found
    config = _resumed_config(state, chosen, report)
    run.keep = config.keep
    report(f"Going on after step {state['step']}, from {checkpoint}.")
    return Session(config, run, checkpoint, state)


def default_folder(chosen: Mapping[str, object]) -> str:
    """``runs/DATA-TOKENIZER``, or ``runs/DATA-from-MODEL``."""
    config = TrainConfig.from_dict(chosen)
    if config.init_from:
        return f"runs/{short_name(config.data)}-from-{name_of(config.init_from)}"
    return f"runs/{short_name(config.data)}-{Path(config.tokenizer).name}"


def _resumed_config(
    state: TrainingState, chosen: Mapping[str, object], report: PrintLine
) -> TrainConfig:
    """The run's own settings, changed where others were given; says what that means."""
    before = TrainConfig.from_dict(state["config"], "checkpoint")
    for sentence in differences(before, chosen):
        report(f"  changed: {sentence}")
    for sentence in changed_versions(state["versions"]):
        report(f"  changed: {sentence}")
    return TrainConfig.from_dict({**before.to_dict(), **chosen})
