"""A model together with its tokenizer, from whatever a person would type."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from tinygrad_llm import tokenizers
from tinygrad_llm.backend.files import reading_errors
from tinygrad_llm.backend.precision import weights_type
from tinygrad_llm.backend.saved_folder import reading, settle
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.generation.next_scores import vocab_size_of
from tinygrad_llm.hints import command
from tinygrad_llm.nn import GPT, Module, load_model
from tinygrad_llm.pretrained import SIZES
from tinygrad_llm.pretrained.config_file import CONFIG_NAME, HPARAMS_NAME, OWN_NAME
from tinygrad_llm.tokenizers import Tokenizer

M = TypeVar("M", bound=Module)
_GPT2_VOCABULARY = 50257
_CONFIGURATIONS = (CONFIG_NAME, HPARAMS_NAME, OWN_NAME)


def open_checkpoint(
    source: str | Path, device: str = "cpu", dtype: str | None = None, verify: bool = True
) -> tuple[Module, Tokenizer]:
    """A model, in evaluation mode, and its tokenizer.

    Args:
        source: a checkpoint's folder; a training run's folder, of which the best checkpoint is
            taken; a folder of Hugging Face or OpenAI; or a name such as "gpt2".
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        dtype: of weights and activations; None for that of the files, float32 for half precision.
            ``"bfloat16"`` on a CPU leaves them float32 (`backend.precision.is_mixed`): compute
            under ``tg.float32_matmul_precision("medium")`` there.
        verify: compare the files with their checksums, if they were saved with some; takes about
            a second for each 500 MB. ``TINYGRAD_LLM_VERIFY=off`` in the environment says no, too.

    Raises:
        CheckpointError: there is no such model, its files are damaged, or the tokenizer is another
            model's.
        TokenizerError: the tokenizer is missing or damaged.
    """
    if str(source) in SIZES and not Path(source).is_dir():
        return in_type(GPT.from_pretrained(str(source), device), dtype), tokenizers.gpt2()
    folder = find_checkpoint(Path(source))
    with reading(folder):
        model = in_type(load_model(folder, device=device, verify=verify), dtype)
        vocab_size = vocab_size_of(model)
        tokenizer = _tokenizer_of(folder, vocab_size)
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model only "
            f"{vocab_size}. They belong to different models."
        )
    return model, tokenizer


def _tokenizer_of(folder: Path, vocab_size: int) -> Tokenizer:
    """That of the folder; GPT-2's where a model of its size stands alone, as it often does."""
    patterns = ("*token*", "vocab.*", "merges.txt", "encoder.json")
    alone = not any(path for pattern in patterns for path in folder.glob(pattern))
    if alone and vocab_size >= _GPT2_VOCABULARY:
        return tokenizers.gpt2()
    return tokenizers.load(folder)


def in_type(model: M, dtype: str | None) -> M:
    """The model with weights of a type, as `open_checkpoint` takes it."""
    return model if dtype is None else model.to(weights_type(dtype, model.device))


def find_checkpoint(folder: Path) -> Path:
    """The checkpoint meant by a folder: itself, or the best or the newest one of a run.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    with reading_errors(folder, CheckpointError):
        return _find(folder)


def _find(folder: Path) -> Path:
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: there is no such folder. Use a name ({', '.join(SIZES)}), or train a "
            f"model first: {command('train')}"
        )
    steps = sorted(folder.glob("checkpoints/step-*"), reverse=True)
    for place in (folder, folder / "best", folder / "last", *steps):
        settle(place)
        if any((place / name).is_file() for name in _CONFIGURATIONS):
            return place
    raise CheckpointError(f"{folder}: {_what_else(folder)}")


def _what_else(folder: Path) -> str:
    """What a folder without a checkpoint is, and which command takes it."""
    if found := sorted(folder.glob("*/classifier.json")):
        ask = command("finetune", "spam", "--out", folder, "--predict", "your message")
        return (
            f"holds a classifier, which names the class of a text and writes none. Ask it: {ask}\n"
            f"The language model below it: {command('generate', found[0].parent)}"
        )
    if any(folder.glob("*.tokens")):
        train = command("train", "--data", folder)
        return f"holds a text as tokens, and no model. Train one on it: {train}"
    runs = [p.name for p in sorted(folder.iterdir()) if _time_of_newest(p) is not None]
    if runs:
        return f"holds {len(runs)} runs; name one of them: {command('generate', folder / runs[0])}"
    if (folder / "finetuning.json").is_file():
        return "its fine-tuning was stopped before it wrote a model. Go on with it: --resume"
    if (folder / "config.toml").is_file():
        resume = command("train", "--out", folder, "--resume")
        return f"a run that has no checkpoint yet. Go on with it: {resume}"
    return (
        "there is no checkpoint: neither config.json nor hparams.json is in this folder, its "
        "best/, last/ or checkpoints/."
    )


def newest_run(runs: Path) -> Path:
    """The training run whose newest checkpoint is the youngest.

    What else may lie there is passed over: runs without a checkpoint yet, tuned classifiers.

    Raises:
        CheckpointError: there is none.
    """
    found = {p: time for p in runs.glob("*") if (time := _time_of_newest(p)) is not None}
    if not found:
        raise CheckpointError(
            f"{runs}: there is no training run. Name a checkpoint's folder or a model such as "
            f"gpt2, or train one: {command('train')}"
        )
    return max(found, key=lambda p: found[p])


def _time_of_newest(run: Path) -> float | None:
    """When the newest checkpoint of a language model was written; None where there is none."""
    places = [run / "best", run / "last", *run.glob("checkpoints/step-*")]
    files = [p / name for p in places for name in _CONFIGURATIONS if (p / name).is_file()]
    if not files or any((p / "classifier.json").is_file() for p in (run, *places)):
        return None
    return max(file.stat().st_mtime for file in files)
