"""Files of a folder that this package saved, and that another program wrote anew.

People train a model here, go on in transformers, and save over it. The checksums of the folder are
then those of files that are gone. A file that says itself who wrote it is told from a damaged one:
damage can take a signature away, but only where it breaks the file or hits the signature alone.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from tinygrad_llm.backend import saved_folder
from tinygrad_llm.backend.checksums import CHECKSUMS_NAME, Files, compare, read_sealed
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.pretrained.config_file import read_json
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile
from tinygrad_llm.pretrained.sources import MODEL_FILES

SIGNATURE = {"written_by": "tinygrad_llm"}  # in the metadata of a model's weights
_THEIRS = "transformers_version"  # transformers' config.json has it, this package's never


def verify_model(folder: Path) -> None:
    """Compare a model's files with their checksums; what another program wrote anew has none.

    Warns:
        UserWarning: names the files that another program wrote.

    Raises:
        CheckpointError: as `saved_folder.verify`.
    """
    try:
        saved_folder.verify(folder, MODEL_FILES)
    except CheckpointError:
        replaced = _written_elsewhere(folder)
        if not replaced:
            raise
        saved_folder.verify(folder, set(MODEL_FILES) - replaced)
        warnings.warn(
            f"{folder}: another program wrote {' and '.join(sorted(replaced))} anew, after this "
            f"package had saved the folder. Read without the checksums of {CHECKSUMS_NAME}.",
            stacklevel=4,
        )


def _written_elsewhere(folder: Path) -> frozenset[str]:
    """Those of a model's files that this package listed, and that another program replaced."""
    path = folder / CHECKSUMS_NAME
    listed: Files = read_sealed(path)["files"] if path.exists() else {}
    return frozenset(
        name
        for name in set(MODEL_FILES) & listed.keys()
        if _is_anothers(folder / name) and _differs(folder, name, listed)
    )


def _is_anothers(path: Path) -> bool:
    """Whether a file is whole, and says of itself that this package did not write it."""
    try:
        if path.suffix == ".safetensors":
            return not SIGNATURE.items() <= SafetensorsFile(path).metadata.items()
        return isinstance(read_json(path).get(_THEIRS), str)
    except CheckpointError:  # missing or damaged
        return False


def _differs(folder: Path, name: str, listed: Files) -> bool:
    try:
        compare(folder, {name: listed[name]})
    except CheckpointError:
        return True
    return False
