"""Whether a run can fit into the memory of this machine at all, asked before anything is made."""

from __future__ import annotations

import os

from tinygrad_llm.errors import ConfigError
from tinygrad_llm.training.report.memory import readable
from tinygrad_llm.training.settings.config import TrainConfig

_TRAINED = 16  # bytes of a parameter: weight, gradient and two moments, in float32
_IDS = 16  # bytes of a position in a batch: input and target


def require_room(config: TrainConfig) -> None:
    """Refuse sizes that need more memory than the machine has: they are typing mistakes.

    Activations are not counted, nor is the token table, so what passes may still be too large.

    Raises:
        ConfigError: the model or the batches of a step need more.
    """
    there = _memory()
    batches = config.accumulate * config.batch_size * config.context_length * _IDS
    _compare("accumulate, batch_size and context_length: the ids of a step need", batches, there)
    if config.model == "gpt" and not config.init_from:
        inside = config.n_layer * 12 * config.n_embd**2
        each = _TRAINED if config.device == "cpu" else 4  # on a GPU only the first weights are here
        needed = (inside + config.context_length * config.n_embd) * each
        _compare("n_layer, n_embd and context_length: the model's training needs", needed, there)


def _compare(what: str, needed: int, there: int) -> None:
    if needed > there:
        raise ConfigError(
            f"{what} {readable(needed)} of memory, this machine has {readable(there)}. Choose "
            "smaller numbers."
        )


def _memory() -> int:
    """Bytes of the machine's memory, or as many as this process may use; without limit: 2 ** 60."""
    found = [2**60]
    try:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        import resource

        found.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    except (AttributeError, ImportError, OSError, ValueError):  # Windows
        pass
    return min(size for size in found if size > 0)
