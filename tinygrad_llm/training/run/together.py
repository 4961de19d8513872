"""How several processes begin a run, or go on with one: the same settings, the same text.

Only rank 0 opens the folder; the other ranks learn from it where the run stands, and read the
checkpoint themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tinygrad_llm.distributed import Communicator, require_equal
from tinygrad_llm.training.run.checkpoint import read_state
from tinygrad_llm.training.run.session import Session, open_session
from tinygrad_llm.training.run.text import TokenText
from tinygrad_llm.training.run.versions import versions
from tinygrad_llm.training.settings.config import TrainConfig


def open_together(
    world: Communicator,
    chosen: Mapping[str, object],
    resume: bool,
    overwrite: bool,
    before_deleting: Callable[[str], None] | None = None,
) -> Session:
    """`session.open_session` for all ranks: rank 0 opens the folder, the others read from it.

    Raises:
        DistributedError: the ranks were started with different settings or versions.
        ConfigError, CheckpointError: as `open_session`.
    """
    if world.size == 1:
        return open_session(chosen, resume, overwrite, before_deleting=before_deleting)
    own = versions()
    require_equal(
        world,
        {
            **chosen,
            "--resume": resume,
            "--overwrite": overwrite,
            "version": own["tinygrad_llm"],
            "version of NumPy": own["numpy"],
        },
    )
    session = None
    if world.rank == 0:
        session = open_session(
            chosen, resume, overwrite, before_deleting=before_deleting, processes=world.size
        )
    where = session and session.checkpoint and str(session.checkpoint)
    config, where = world.share((session.config.to_dict() if session else {}, where))
    if session is not None:
        return session
    checkpoint = Path(where) if where else None
    state = read_state(checkpoint) if checkpoint else None
    return Session(TrainConfig.from_dict(config), None, checkpoint, state)


def require_same_text(world: Communicator, text: TokenText) -> None:
    """Refuse to train on texts that differ between the ranks.

    Raises:
        DistributedError: they do.
    """
    require_equal(world, {"text": text.described, "checksum of the text": text.fingerprint})
