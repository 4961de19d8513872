"""The checkpoints of a fine-tuning: weights that learn, optimizer, place in the data, history.

They stand in a `RunFolder`, in the format of training's (`training/run/checkpoint.py`): complete
or not there, and with checksums. Frozen weights are not saved. Whoever goes on makes the model
as it was at the start, and a checksum of its weights tells whether it is the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.backend import Array, to_numpy
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.finetuning.history import KeepsBest
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile, write_safetensors
from tinygrad_llm.training.progress import TrainingState
from tinygrad_llm.training.run.folder import PrintLine, RunFolder
from tinygrad_llm.training.run.versions import changed_versions, versions
from tinygrad_llm.training.trainer import Trainer

WEIGHTS_NAME = "weights.safetensors"
HARMLESS = ("graph", "patience")  # settings that another value of does not change the steps
BITS = ("dtype",)  # settings that may change, after which the steps are others


class FitCheckpoints:
    """Saves a fine-tuning, and goes on with a saved one.

    Args:
        run: the folder.
        keeper: history and best weights.
        settings: how is tuned, in JSON's types.
        start: checksum of the model before training.
        examples: checksum of the training set.
        report: called with each sentence that the user should read.
    """

    def __init__(
        self,
        run: RunFolder,
        keeper: KeepsBest,
        settings: Mapping[str, object],
        start: str,
        examples: str,
        report: PrintLine | None,
    ) -> None:
        self._run, self._keeper, self._settings = run, keeper, settings
        self._sums = {"start": start, "examples": examples}
        self._report = report or (lambda line: None)

    def save(self, step: int, state: TrainingState, best_step: int | None) -> Path:
        """Write the checkpoint of a step; the best weights are part of it."""

        def write_weights(folder: Path) -> None:
            weights = {name: p.data for name, p in self._keeper.learning.items()}
            write_safetensors(folder / WEIGHTS_NAME, weights)

        of_the_run = {"fit": dict(self._settings), **self._sums, "versions": versions()}
        whole = {**state, **self._keeper.state(), **of_the_run}
        return self._run.save(step, write_weights, whole, None)

    def go_on(self, trainer: Trainer) -> None:
        """Bring a trainer to where the newest intact checkpoint stands, if there is one.

        Raises:
            ConfigError: settings differ that cannot change within a run.
            CheckpointError: all checkpoints are damaged, or they are of another model or data.
        """
        found = self._run.load_newest(self._report, has_best=False)
        if found is None:
            return
        folder, state = found[0], dict[str, Any](found[1])
        self._check(state)
        for sentence in changed_versions(state["versions"]):
            self._report(f"  changed: {sentence}")
        file = SafetensorsFile(folder / WEIGHTS_NAME)
        self._keeper.load({name: file.read(name) for name in file})
        self._keeper.set_state(state)
        trainer.set_state(found[1])
        self._report(f"Going on after step {trainer.step} of {trainer.settings.steps} ({folder}).")

    def _check(self, state: Mapping[str, Any]) -> None:
        before = state.get("fit")
        if before is None:
            raise CheckpointError(
                f"{self._run.path}: holds another kind of run than a fine-tuning. Choose another "
                "folder."
            )
        changed = {k for k, v in self._settings.items() if v != before.get(k)} - {*HARMLESS}
        listed = "; ".join(
            f"{name}: {before.get(name)!r} -> {self._settings[name]!r}" for name in sorted(changed)
        )
        if changed <= {*BITS} and changed:
            self._report(
                f"  changed: {listed} (the weights will differ from those of an undisturbed run)"
            )
        elif changed:
            raise ConfigError(
                f"{self._run.path}: these settings cannot change within a run ({listed}). Leave "
                "them as they were, or begin in another folder."
            )
        start = "model to start from, or the type of its weights (dtype, device),"
        for name, what in (("examples", "training set"), ("start", start)):
            if state[name] != self._sums[name]:
                raise CheckpointError(
                    f"{self._run.path}: the {what} is not the one this run began with. Restore "
                    "it, or begin in another folder."
                )


def checksum_of(arrays: Iterable[Array]) -> str:
    """SHA-256 of shapes, types and values."""
    digest = hashlib.sha256()
    for array in map(to_numpy, arrays):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
