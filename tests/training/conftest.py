"""A run small enough to be repeated often: a page of the Python manual, 2,500 parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tinygrad_llm.training.run.assemble import make_trainer
from tinygrad_llm.training.run.session import open_session
from tinygrad_llm.training.trainer import Trainer

SMALL = {
    "tokenizer": "char",
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "context_length": 16,
    "batch_size": 4,
    "steps": 20,
    "warmup": 4,
    "dropout": 0.1,
    "eval_every": 5,
    "eval_tokens": 256,
    "checkpoint_every": 5,
    "log_every": 2,
    "sample_every": 0,
    "progress": False,
    "plot": False,
    "learning_rate": 1e-2,
    "min_learning_rate": 1e-3,
}


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 5,000 characters of real English in a file."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "calls.txt"
    path.write_text(topics["calls"][:5000], encoding="utf-8")
    return path


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The stand-in GPU with kernels; a list of what made the host wait for it."""
    pytest.importorskip("triton")
    from tests.replayed_gpu import gpu_with_kernels

    with gpu_with_kernels(monkeypatch) as synchronizations:
        yield synchronizations


@dataclass
class Runs:
    """Makes and continues small runs below one folder."""

    folder: Path
    text: Path
    said: list[str]
    open_folders: list[Any]

    def settings(self, out: str = "run", **changes: Any) -> dict[str, Any]:
        base = {"data": [str(self.text)], "out": str(self.folder / out)}
        return {**SMALL, **base, **changes}

    def trainer(
        self,
        out: str = "run",
        resume: bool = False,
        callbacks: Any = (),
        kind: Callable[..., Trainer] = Trainer,
        **changes: Any,
    ) -> Trainer:
        chosen = self.settings(out, **changes)
        if resume:  # the run's own settings hold, but for the changes
            chosen = {"out": chosen["out"], **changes}
        session = open_session(chosen, resume, False, self.said.append)
        self.open_folders.append(session.run)
        text = session.load_text()
        model = session.load_model(text)
        trainer = make_trainer(
            session.config, text, model, session.run, session.state, callbacks, kind
        )
        return trainer

    def close(self) -> None:
        for folder in self.open_folders:
            folder.close()

    def fit(self, *args: Any, **changes: Any) -> Trainer:
        trainer = self.trainer(*args, **changes)
        trainer.result = trainer.fit()  # type: ignore[attr-defined]
        self.close()
        return trainer


@pytest.fixture
def runs(tmp_path: Path, page: Path) -> Iterator[Runs]:
    made = Runs(tmp_path, page, [], [])
    yield made
    made.close()


def weights_of(trainer: Trainer) -> dict[str, bytes]:
    """The bits of all parameters."""
    return {name: p.data.tobytes() for name, p in trainer.model.named_parameters()}


@pytest.fixture(name="weights_of")
def weights_of_fixture() -> Callable[[Trainer], dict[str, bytes]]:
    return weights_of
