"""GPT-2's weights by name: from a folder that has them, from the cache, or from the network."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from tinygrad_llm.backend.download import RemoteFile, check, fetch
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.errors import CheckpointError, DataError
from tinygrad_llm.gpt_config import GPTConfig
from tinygrad_llm.pretrained.config_file import CONFIG_NAME, write_config
from tinygrad_llm.pretrained.sources import WEIGHTS_NAME

# n_layer, n_head, n_embd; 124M, 355M, 774M and 1,558M parameters. Source: Radford et al. 2019,
# table 2, with the head counts of the published hparams.json.
SIZES = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}
# SHA-256 of each model's model.safetensors, and bytes that it does not exceed: it does not matter
# which server sends it. Source: huggingface.co/openai-community.
WEIGHTS = {
    "gpt2": ("248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", 549_000_000),
    "gpt2-medium": (
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
        1_520_000_000,
    ),
    "gpt2-large": (
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
        3_248_000_000,
    ),
    "gpt2-xl": ("0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a", 6_432_000_000),
}
_ENDPOINT = "https://huggingface.co"  # or $HF_ENDPOINT, as for huggingface_hub
_OWNER = "openai-community"


def gpt2_config(name: str) -> GPTConfig:
    """The configuration of one of OpenAI's GPT-2 models, with its dropout of 0.1.

    Raises:
        CheckpointError: there is no such model.
    """
    if name not in SIZES:
        raise CheckpointError(
            f"{name!r}: there is no folder of this name, and no such model; known models are "
            f"{', '.join(SIZES)}."
        )
    n_layer, n_head, n_embd = SIZES[name]
    return GPTConfig(50257, 1024, n_layer, n_head, n_embd, dropout=0.1)


def model_folder(
    name: str, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True
) -> Path:
    """The folder with a GPT-2 model's files, which are downloaded if they are not there yet.

    With ``huggingface_hub`` installed its cache is used, so a model that transformers has fetched
    is not fetched again. Otherwise the file goes to this package's cache (see
    `backend.files.cache_folder`): with progress, and resumed where it stopped. Wherever the file
    comes from, its SHA-256 is compared with the one in `WEIGHTS`.

    Args:
        name: ``"gpt2"``, ``"gpt2-medium"``, ``"gpt2-large"`` or ``"gpt2-xl"``.
        cache_dir: another cache folder.
        progress: show a bar.

    Raises:
        CheckpointError: an unknown name, no network, or a file that is not the published one;
            names the files and where to put them.
    """
    config = gpt2_config(name)
    folder = cache_folder(cache_dir) / name
    hub = _hub() if cache_dir is None and not (folder / WEIGHTS_NAME).is_file() else None
    try:
        if hub is not None:
            folder = _from_hub(hub, name)
            check(_weights(name), folder / WEIGHTS_NAME)
            return folder
        fetch(_weights(name), folder, progress)
        if not (folder / CONFIG_NAME).is_file():
            write_config(folder, config)
    except (DataError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{name}: the weights are not to be had ({error}). Without a network, put "
            f"{WEIGHTS_NAME} (from {_ENDPOINT}/{_OWNER}/{name}) into {folder}, or give "
            "from_pretrained a folder: one of transformers, or OpenAI's with model.ckpt.* and "
            "hparams.json."
        ) from error
    return folder


def _weights(name: str) -> RemoteFile:
    checksum, max_bytes = WEIGHTS[name]
    url = f"{_endpoint()}/{_OWNER}/{name}/resolve/main/{WEIGHTS_NAME}"
    return RemoteFile(WEIGHTS_NAME, url, checksum, max_bytes=max_bytes)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", _ENDPOINT).rstrip("/")


def _hub() -> ModuleType | None:
    try:
        import huggingface_hub
    except ImportError:
        return None
    return huggingface_hub


def _from_hub(hub: ModuleType, name: str) -> Path:
    """Through the hub's own client; it raises subclasses of OSError and ValueError."""
    names = [CONFIG_NAME, WEIGHTS_NAME]
    return Path(hub.snapshot_download(f"{_OWNER}/{name}", allow_patterns=names))
