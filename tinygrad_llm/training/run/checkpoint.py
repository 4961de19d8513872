"""One checkpoint: a folder that is complete or does not exist, and that notices any damage.

    config.json  model.safetensors  tokenizer files      as Hugging Face transformers reads them
    training_state.safetensors                           the optimizer's arrays
    training_state.json                                  everything else, and a checksum of each
                                                         of the other files and of itself

The folder is written under a temporary name, every file flushed to the disk, and then renamed:
whoever is killed in between leaves nothing under the final name. Reading first compares all
checksums, so no parser ever sees a damaged file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array, is_array
from tinygrad_llm.backend.checksums import (
    AGAIN,
    FORMATS,
    STATE_NAME,
    VERSION,
    checksums_of,
    compare,
    read_sealed,
    sealed,
)
from tinygrad_llm.backend.files import remove, sync_folder
from tinygrad_llm.backend.saved_folder import joined
from tinygrad_llm.backend.staging import flush
from tinygrad_llm.errors import CheckpointError, TinygradLLMError
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile, write_safetensors
from tinygrad_llm.training.progress import TrainingState

ARRAYS_NAME = "training_state.safetensors"
# Entries of a state, where it has them. (What a loader saves is its own matter.)
_KINDS = {
    "step": int,
    "optimizer": dict,
    "generator": dict,
    "trainer": dict,
    "config": dict,
    "versions": dict,
}
_MARK = "array"  # of the name of an array, where the array stood


def write_checkpoint(
    target: Path, write_model: Callable[[Path], None], state: Mapping[str, object]
) -> Path:
    """Write a checkpoint folder, whole or not at all.

    Args:
        target: the folder's final name; one that exists is replaced.
        write_model: puts the model and the tokenizer into a folder.
        state: nested tables of JSON's types and arrays.

    Returns:
        ``target``.

    Raises:
        CheckpointError: it cannot be written (a full disk, no permission); what existed is intact.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        remove(temporary, quietly=True)
        temporary.mkdir(parents=True)
        with joined(temporary):
            write_model(temporary)
        plain, arrays = split_arrays(state)
        write_safetensors(temporary / ARRAYS_NAME, arrays)
        _write_state(temporary, plain)
        flush(temporary)
        _put_in_place(temporary, target)
    except (OSError, CheckpointError) as error:
        remove(temporary, quietly=True)
        why = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{target}: cannot be written ({why}). Earlier checkpoints are intact. "
            "Check the free space and the permissions, then go on with --resume."
        ) from error
    except BaseException:
        remove(temporary, quietly=True)
        raise
    return target


def _write_state(folder: Path, plain: Mapping[str, object]) -> None:
    files = checksums_of(folder.iterdir())
    body = {"format": FORMATS[STATE_NAME], "version": VERSION, **plain, "files": files}
    (folder / STATE_NAME).write_bytes(sealed(body))


def _put_in_place(temporary: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.{os.getpid()}.old.tmp")
    if os.path.lexists(target):
        os.rename(target, old)
    os.rename(temporary, target)
    sync_folder(target.parent)
    remove(old, quietly=True)


def read_state(folder: Path) -> TrainingState:
    """Everything but the model: the state as it was given to `write_checkpoint`.

    All files of the folder are verified, the model's too.

    Raises:
        CheckpointError: not a checkpoint, damaged, or of a version this package does not know.
    """
    state = verify(folder)
    file = SafetensorsFile(folder / ARRAYS_NAME)
    arrays = {name: file.read(name) for name in file}
    return join_arrays(state, arrays)


def verify(folder: Path) -> dict[str, Any]:
    """Compare every file with its checksum; returns the JSON part of the state.

    Raises:
        CheckpointError: a file is missing, damaged, or of an unknown version.
    """
    path = folder / STATE_NAME
    if not path.exists():
        raise CheckpointError(f"{path}: is missing; there is no checkpoint of a training run.")
    state = read_sealed(path)
    odd = [n for n, kind in _KINDS.items() if n in state and not isinstance(state[n], kind)]
    if odd:
        raise CheckpointError(
            f"{path}: is damaged: {' and '.join(odd)} of another type than saved."
        )
    compare(folder, state["files"], AGAIN)  # a run goes on with what it has saved, or not at all
    return state


@contextmanager
def entries_of_a_state() -> Iterator[None]:
    """A block that reads what `read_state` returned, and finds entries missing or of other types.

    Raises:
        CheckpointError: it did.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, TinygradLLMError):
            raise
        raise CheckpointError(
            f"training state: its entries are not those that a run saves ({error!r:.200}). The "
            "checkpoint was changed, or is another program's: take an earlier one, or begin a new "
            "run."
        ) from error


# ---- arrays to one file, the rest to another -----------------------------------------------------
#      {"step": 3, "m": array}   ->   {"step": 3, "m": {"array": "m"}}   and   {"m": array}


def split_arrays(tree: object, path: str = "") -> tuple[Any, dict[str, Array]]:
    """A nested table without its arrays, and the arrays by their path in it.

    Raises:
        CheckpointError: something that is neither an array nor one of JSON's types.
    """
    arrays: dict[str, Array] = {}
    plain = _without_arrays(tree, path, arrays)
    return plain, arrays


def _without_arrays(value: object, path: str, arrays: dict[str, Array]) -> object:
    if isinstance(value, Tensor):
        value = value.data
    if is_array(value):
        arrays[path] = value
        return {_MARK: path}
    if isinstance(value, Mapping):
        return {str(k): _without_arrays(v, _join(path, k), arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, _join(path, i), arrays) for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(f"state {path!r}: cannot be saved, it is a {type(value).__name__}.")


def join_arrays(plain: object, arrays: Mapping[str, Array]) -> Any:
    """The nested table that `split_arrays` took apart.

    Raises:
        CheckpointError: an array is missing.
    """
    if isinstance(plain, Mapping):
        if set(plain) == {_MARK}:
            name = str(plain[_MARK])
            if name not in arrays:
                raise CheckpointError(f"training state: the array {name!r} is missing.")
            return arrays[name]
        return {k: join_arrays(v, arrays) for k, v in plain.items()}
    if isinstance(plain, list):
        return [join_arrays(v, arrays) for v in plain]
    return plain


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
